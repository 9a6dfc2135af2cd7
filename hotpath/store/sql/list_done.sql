-- Jobs that have ended, the newest first. $1 before this id, $2 from this id on, $3 done_at not before, $4 script, $5 tag, $6 state (each
-- null: any), $7 how many, $8 whether steps of runs are wanted too, $9 whether args and results are. Ordered by the primary key of each partition, so it stops after as many rows
-- as it needs; steps that are not wanted are passed over.
with d as materialized (
    select * from hotpath.job_done
    where id < $1 and id >= $2 and done_at >= $3
      and ($4::int4 is null or script = $4) and ($5::int8 is null or tag = $5) and ($6::int2 is null or state = $6)
      and ($8::boolean or parent is null)
    order by id desc limit $7
)
select d.id, s.name as script, hotpath.tag_name(d.tag) as tag, case d.state when 1 then 'success' when 2 then 'failure' else 'canceled' end as state,
    d.priority::int4 as priority, d.scheduled_for, hotpath.uuid_time(d.id) as created_at, d.started_at,
    coalesce(d.started_at + d.duration_us * interval '1 microsecond', d.done_at) as finished_at, d.duration_us / 1000.0::float8 as duration_ms,
    w.name as worker, d.attempt::int4 as attempt,
    case when $9::boolean then coalesce(d.args, (select p.args from hotpath.payload p where p.id = d.id)) end as args,
    case when $9 then d.result end as result, d.error,
    case when d.parent is not null then 'step' else coalesce(v.kind, 'script') end as kind, d.parent, d.step, hotpath.iteration_of(d.step) as iteration
from d join hotpath.script s on s.id = d.script left join hotpath.script_version v on v.id = s.version left join hotpath.worker w on w.id = d.worker
order by d.id desc
