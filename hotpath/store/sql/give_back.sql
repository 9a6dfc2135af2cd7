-- Put what leases still hold back into the queue, each job as a loose row with its own id; the leases go. What somebody asked to cancel
-- ends as canceled instead. No attempt is charged, unless a suspect has killed its worker once more while it ran alone (I7).
-- $1 leases; $2 the worker that holds them, or null: only those whose worker is dead, by the database's clock (I6); $3 whether one of
-- these jobs may have killed its worker: each then is a suspect.
with held as materialized (
    select l.*, $3::bool as suspected from hotpath.lease l
    where l.id = any ($1::int8[]) and l.worker = $2::int4
    order by l.id for update of l
),
-- Nobody waits for a row that a dead client's transaction holds: the next round takes it. A worker that was stopped had all its leases
-- taken back then: what it holds now is a claim that came through too late, and never began.
dead as materialized (
    select l.*, $3 and w.stopped_at is null as suspected from hotpath.lease l left join hotpath.worker w on w.id = l.worker
    where $2 is null and l.id = any ($1) and (w.id is null or w.stopped_at is not null or w.lease_until <= now())
    order by l.id for update of l skip locked
),
l as materialized (select * from held union all select * from dead),
b as materialized (
    select * from hotpath.batch where base = any (array(select batch from l)) order by base for update
),
j as materialized (
    select coalesce(u.id, hotpath.job_id(b.base, (l.lo + u.ord - 1)::int4)) as id, coalesce(u.scheduled, b.scheduled_for) as scheduled_for, b.tag, b.script,
        coalesce(u.priority, b.priority) as priority, coalesce(u.attempt, 0::int2) as attempt, u.crashes, u.suspect, u.timeout_ms, u.args, u.limit_key, s.entry,
        l.worker, l.claimed_at, l.suspected, l.suspected and coalesce(u.suspect, 0) >= 3 as crashed,
        case when l.cancels is not null and get_bit(l.cancels, (u.ord - 1)::int4) = 1 then 3
            when l.suspected and coalesce(u.suspect, 0) >= 3 and coalesce(u.crashes, 0) >= 2 then 2 end as state
    from l join b on b.base = l.batch left join hotpath.script s on s.id = b.script
    cross join lateral rows from (unnest(b.args[l.lo + 1:l.hi]), unnest(b.ids[l.lo + 1:l.hi]), unnest(b.scheduled[l.lo + 1:l.hi]),
        unnest(b.priorities[l.lo + 1:l.hi]), unnest(b.attempts[l.lo + 1:l.hi]), unnest(b.crashes[l.lo + 1:l.hi]), unnest(b.suspects[l.lo + 1:l.hi]),
        unnest(b.timeouts[l.lo + 1:l.hi]), unnest(b.keys[l.lo + 1:l.hi]))
        with ordinality as u (args, id, scheduled, priority, attempt, crashes, suspect, timeout_ms, limit_key, ord)
    where (b.skip is null or get_bit(b.skip, (l.lo + u.ord - 1)::int4) = 0) and (l.done is null or get_bit(l.done, (u.ord - 1)::int4) = 0)
),
back as (
    insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, attempt, crashes, suspect, timeout_ms, args, limit_key, expires_at)
    select id, scheduled_for, tag, script, priority, attempt + crashed::int4, case when crashed then coalesce(crashes, 0) + 1 else crashes end,
        case when suspected then least(coalesce(suspect, 0) + 1, 3) else suspect end, timeout_ms, args, limit_key,
        case when attempt + crashed::int4 = 0 then scheduled_for + (entry ->> 'expires')::float8 * interval '1 second' end
    from j where state is null
    returning tag
),
tried as (
    insert into hotpath.job_attempt (id, started_at, worker, attempt, state, error)
    select id, claimed_at, worker, attempt + 1, 2, hotpath.error_object('WorkerLost', 'its worker was lost while this job ran alone', 'crash')
    from j where crashed and state is null
),
ended as (
    insert into hotpath.job_done (id, started_at, scheduled_for, tag, script, worker, priority, attempt, state, args, error, timeout_ms)
    select id, claimed_at, scheduled_for, tag, script, worker, priority, attempt + (state = 2)::int4, state, args,
        case state when 3 then hotpath.error_object('JobCanceled', 'canceled while a worker had it', 'canceled')
            else (hotpath.error_object('WorkerLost', coalesce('step ' || s.key || ': ', '')
                || 'its worker was lost while this job ran alone, and so were two before it', 'crash')::jsonb || coalesce(s.said, '{}'))::json end, timeout_ms
    from j
    -- A run of a flow that is known to have had one step under way then; of several, each may have done it.
    left join lateral (
        select min(hotpath.step_of_mark(m.key)) as key, jsonb_strip_nulls(jsonb_build_object(
            'step', split_part(split_part(regexp_replace(min(hotpath.step_of_mark(m.key)), '^.*/', ''), '[', 1), '~', 1),
            'iteration', nullif(hotpath.iteration_of(min(hotpath.step_of_mark(m.key))), ''))) as said
        from hotpath.mark m where m.run = j.id and m.key like 'running:%' and (m.value ->> 'life')::int4 = j.attempt + 1 having count(*) = 1
    ) s on j.state = 2
    where j.state is not null
    returning id
),
gone as (delete from hotpath.lease using l where lease.id = l.id),
closed as materialized (select batch, sum(hi - lo)::int2 as k from l group by batch),
emptied as (delete from hotpath.batch t using b join closed c on c.batch = b.base where t.base = b.base and b.open = c.k),
opened as (update hotpath.batch t set open = t.open - c.k from b join closed c on c.batch = b.base where t.base = b.base and b.open > c.k),
woken as materialized (
    select pg_notify('hotpath', t.tag || ' back') from (select distinct tag from back) t
    where exists (select from hotpath.doze d where d.tag = t.tag and d.until > now())
),
told as materialized (
    select hotpath.tell(array_agg(w.job), array_agg(w.client)) from hotpath.waiter w where w.job in (select id from ended) having count(*) > 0
)
select (select count(*) from back) as jobs, (select count(*) from ended) as ended, (select count(*) from l) as leases,
    (select count(*) from woken) + (select count(*) from told) as told
