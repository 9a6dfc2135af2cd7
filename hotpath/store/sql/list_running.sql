-- Jobs that run, the newest first. Parameters as `list_loose`. Leases are few: one or two a worker.
with j as materialized (
    select * from (
        select b.script, b.tag, coalesce(b.priorities[k + 1], b.priority) as priority, coalesce(b.scheduled[k + 1], b.scheduled_for) as scheduled_for,
            coalesce(b.attempts[k + 1], 0) + 1 as attempt, coalesce(b.ids[k + 1], hotpath.job_id(b.base, k)) as id, l.claimed_at, l.worker, k, b.args
        from hotpath.lease l join hotpath.batch b on b.base = l.batch
        cross join lateral generate_series(l.lo::int4, l.hi - 1) k
        where ($3::int4 is null or b.script = $3) and ($4::int8 is null or b.tag = $4)
          and (b.skip is null or get_bit(b.skip, k) = 0) and (l.done is null or get_bit(l.done, k - l.lo) = 0)) r
    where id < $1 and id >= $2 and ($6::boolean or (select c.id from hotpath.flow_child c where c.id = r.id) is null)
    order by id desc limit $5
),
-- What runs beside the work, from no queue.
a as (
    select a.script, a.tag, 0::int2 as priority, a.started_at as scheduled_for, 1 as attempt, a.id, a.started_at as claimed_at, null::int4 as worker, 0 as k, array[a.args] as args
    from hotpath.aside a where a.id < $1 and a.id >= $2 and ($3::int4 is null or a.script = $3) and ($4::int8 is null or a.tag = $4)
)
select j.id, s.name as script, hotpath.tag_name(j.tag) as tag, 'running' as state, j.priority::int4 as priority, j.scheduled_for,
    hotpath.uuid_time(j.id) as created_at, j.claimed_at as started_at, null::timestamptz as finished_at, null::float8 as duration_ms,
    w.name as worker, j.attempt::int4 as attempt,
    case when $7::boolean then coalesce(j.args[j.k + 1], (select p.args from hotpath.payload p where p.id = j.id)) end as args,
    null::json as result, null::json as error,
    case when c.run is not null then 'step' else coalesce(v.kind, 'script') end as kind, c.run as parent, c.key as step,
    hotpath.iteration_of(c.key) as iteration
from (select * from j union all select * from a order by id desc limit $5) j join hotpath.script s on s.id = j.script left join hotpath.script_version v on v.id = s.version left join hotpath.worker w on w.id = j.worker
left join hotpath.flow_child c on c.id = j.id
order by j.id desc
