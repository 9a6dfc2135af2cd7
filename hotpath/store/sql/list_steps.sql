-- Steps of one run, wherever they are, those begun last first (their ids say nothing of their order). $1 run, $2 only those before this one in
-- that order (null: from the top), $3 state, $4 script, $5 tag (each null: any), $6 how many, $7 whether args and results are wanted.
with d as (
    select d.id, d.script, d.tag, case d.state when 1 then 'success' when 2 then 'failure' else 'canceled' end as state, d.priority::int4 as priority,
        d.scheduled_for, d.started_at, coalesce(d.started_at + d.duration_us * interval '1 microsecond', d.done_at) as finished_at,
        d.duration_us / 1000.0::float8 as duration_ms, d.worker, d.attempt::int4 as attempt, d.args, d.result, d.error, d.step
    from hotpath.job_done d
    where d.parent = $1 and d.done_at >= hotpath.uuid_time($1) - interval '5 minutes'
),
-- Those that go through the queue; few at a time.
q as (
    select q.id, q.script, q.tag, 'queued', q.priority::int4, q.scheduled_for, null::timestamptz, null::timestamptz, null::float8, null::int4,
        q.attempt::int4, q.args, null::json, null::json, c.key
    from hotpath.flow_child c join hotpath.job_queue q on q.id = c.id
    where c.run = $1 and not c.done
),
r as (
    select c.id, b.script, b.tag, 'running', coalesce(b.priorities[p.k + 1], b.priority)::int4, coalesce(b.scheduled[p.k + 1], b.scheduled_for), l.claimed_at,
        null::timestamptz, null::float8, l.worker, coalesce(b.attempts[p.k + 1], 0)::int4 + 1, b.args[p.k + 1], null::json, null::json, c.key
    from hotpath.lease l join hotpath.batch b on b.base = l.batch
    cross join lateral (select generate_series(l.lo::int4, l.hi - 1) as k) p
    join hotpath.flow_child c on c.id = b.ids[p.k + 1]
    where c.run = $1 and not c.done and b.ids is not null and (b.skip is null or get_bit(b.skip, p.k) = 0) and (l.done is null or get_bit(l.done, p.k - l.lo) = 0)
),
a as materialized (
    select u.* from (table d union all table q union all table r) u
    where ($3::text is null or u.state = $3) and ($4::int4 is null or u.script = $4) and ($5::int8 is null or u.tag = $5)
        and ($2::uuid is null or (coalesce(u.started_at, 'infinity'), u.id) < (
            (select coalesce(b.started_at, 'infinity') from hotpath.job_get($2) b), $2))
    order by coalesce(u.started_at, 'infinity') desc, u.id desc limit $6
)
select a.id, s.name as script, hotpath.tag_name(a.tag) as tag, a.state, a.priority, a.scheduled_for, hotpath.uuid_time(a.id) as created_at, a.started_at,
    a.finished_at, a.duration_ms, w.name as worker, a.attempt,
    case when $7::boolean then coalesce(a.args, (select p.args from hotpath.payload p where p.id = a.id)) end as args,
    case when $7 then a.result end as result, a.error, 'step' as kind, $1 as parent, a.step, hotpath.iteration_of(a.step) as iteration
from a join hotpath.script s on s.id = a.script left join hotpath.worker w on w.id = a.worker
order by coalesce(a.started_at, 'infinity') desc, a.id desc
