-- Jobs that wait and may have killed their worker, the worst first. $1 how many.
select q.id, s.name as script, q.suspect, coalesce(q.crashes, 0) as crashes, count(*) over () as all
from hotpath.job_queue q join hotpath.script s on s.id = q.script where q.suspect > 0 order by q.suspect desc, q.id limit $1::int8
