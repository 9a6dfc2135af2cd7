-- Loose jobs that wait, the newest first. $1 before this id, $2 from this id on, $3 script, $4 tag (each null: any), $5 how many, $6 whether
-- steps of runs are wanted too: those in the queue stand in flow_child, $7 whether args are.
with q as materialized (
    select * from hotpath.job_queue
    where id < $1 and id >= $2 and ($3::int4 is null or script = $3) and ($4::int8 is null or tag = $4)
      and ($6::boolean or (select c.id from hotpath.flow_child c where c.id = job_queue.id) is null)
    order by id desc limit $5
)
select q.id, s.name as script, hotpath.tag_name(q.tag) as tag, 'queued' as state, q.priority::int4 as priority, q.scheduled_for,
    hotpath.uuid_time(q.id) as created_at, null::timestamptz as started_at, null::timestamptz as finished_at, null::float8 as duration_ms,
    null::text as worker, q.attempt::int4 as attempt,
    case when $7::boolean then coalesce(q.args, (select p.args from hotpath.payload p where p.id = q.id)) end as args,
    null::json as result, null::json as error,
    case when c.run is not null then 'step' else coalesce(v.kind, 'script') end as kind, c.run as parent, c.key as step,
    hotpath.iteration_of(c.key) as iteration
from q join hotpath.script s on s.id = q.script left join hotpath.script_version v on v.id = s.version left join hotpath.flow_child c on c.id = q.id
order by q.id desc
