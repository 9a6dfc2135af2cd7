-- $1 has ended: $2 duration in microseconds, $3 state, $4 error (null: none), $5 log (null: none), $6 its marks. Who waits for its end hears of it.
-- No row: somebody has ended it already.
with gone as (
    delete from hotpath.aside where id = $1 returning *
),
ended as (
    insert into hotpath.job_done (id, started_at, duration_us, scheduled_for, tag, script, priority, attempt, state, args, result, error)
    select g.id, g.started_at, $2::int8, g.started_at, g.tag, g.script, 0, 1, $3::int2, g.args, case when $3 = 1 then 'null'::json end, $4::text::json from gone g
    returning id
),
logged as (
    insert into hotpath.job_log (id, attempt, text, marks) select e.id, 1, $5, $6::text::int8[] from ended e where $5::text is not null
)
select e.id, (select hotpath.tell(array_agg(w.job), array_agg(w.client)) from hotpath.waiter w where w.job = e.id having count(*) > 0) from ended e
