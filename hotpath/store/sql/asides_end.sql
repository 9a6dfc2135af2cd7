-- End as crashed what was heard of last at these times, and not since. $1 ids; $2 times.
with gone as (
    delete from hotpath.aside a using unnest($1::uuid[], $2::timestamptz[]) as u (id, seen_at) where a.id = u.id and a.seen_at = u.seen_at returning a.*
),
ended as (
    insert into hotpath.job_done (id, started_at, duration_us, scheduled_for, tag, script, priority, attempt, state, args, error)
    select g.id, g.started_at, (extract(epoch from g.seen_at - g.started_at) * 1000000)::int8, g.started_at, g.tag, g.script, 0, 1, 2, g.args,
        hotpath.error_object('WorkerLost', 'whoever ran it was not heard of any more', 'crash') from gone g
    returning id
)
select e.id, (select hotpath.tell(array_agg(w.job), array_agg(w.client)) from hotpath.waiter w where w.job = e.id having count(*) > 0) from ended e
