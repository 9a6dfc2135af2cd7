-- Steps of a run as they count now, by start: those that have ended, those that went through the queue and have not, and those that its own
-- worker has had under way for a while (it notes them as `running:KEY`). $1 run; $2 how many; $3 of those that have ended, only such as were
-- written since then; null: all.
with f as materialized (
    select greatest(hotpath.uuid_time($1::uuid) - interval '5 minutes', (select r.since from hotpath.flow_run r where r.id = $1)) as since
),
ended as materialized (
    select distinct on (u.key) u.* from (
        select d.step as key, d.id, d.done_at, d.state, d.started_at, d.duration_us, d.attempt, d.worker, d.script, d.error
        from hotpath.job_done d where d.parent = $1 and d.done_at >= (select since from f)
        union all
        select c.key, c.id, c.done_at, c.state, d.started_at, d.duration_us, coalesce(d.attempt, 1::int2), d.worker, d.script,
            case when c.state <> 1 then c.outcome end
        from hotpath.checkpoint c left join hotpath.job_done d on d.id = c.id and d.done_at = c.done_at
        where c.run = $1) u
    order by u.key, u.done_at desc
)
select e.key, e.id, case e.state when 1 then 'success' when 2 then 'failure' else 'canceled' end as state, e.started_at,
    coalesce(e.started_at + e.duration_us * interval '1 microsecond', e.done_at) as finished_at, e.duration_us / 1000.0::float8 as duration_ms,
    e.attempt::int4 as attempt, w.name as worker, s.name as script, e.error, coalesce(e.started_at, e.done_at) as at
from ended e left join hotpath.worker w on w.id = e.worker left join hotpath.script s on s.id = e.script
where $3::timestamptz is null or e.done_at >= $3
union all
select c.key, c.id, j.state, j.started_at, null, null, j.attempt, j.worker, j.script, null, coalesce(j.started_at, j.scheduled_for)
from hotpath.flow_child c cross join lateral hotpath.job_get(c.id) j
where c.run = $1 and not c.done
union all
select hotpath.step_of_mark(m.key), (m.value ->> 'id')::uuid, 'running', to_timestamp((m.value ->> 'since')::float8 / 1000000), null, null,
    (m.value ->> 'attempt')::int4, r.worker, s.name, null, to_timestamp((m.value ->> 'since')::float8 / 1000000)
from hotpath.job_get($1) r join hotpath.mark m on m.run = r.id left join hotpath.script s on s.id = (m.value ->> 'script')::int4
where r.state = 'running' and m.key like 'running:%' and not exists (select from ended e where e.key = hotpath.step_of_mark(m.key))
order by at, key limit $2::int4
