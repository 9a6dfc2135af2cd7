-- Runs of flows that were put in more than $1 seconds ago and wait to be woken, the oldest first. $2 how many.
select q.id, s.name as script, hotpath.uuid_time(q.id) as since, count(*) over () as all
from hotpath.flow_run f join hotpath.job_queue q on q.id = f.id join hotpath.script s on s.id = q.script
where q.scheduled_for > now() + interval '1 hour' and hotpath.uuid_time(q.id) < now() - $1::float8 * interval '1 second' order by q.id limit $2::int8
