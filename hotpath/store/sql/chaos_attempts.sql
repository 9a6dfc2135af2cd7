-- Attempts of jobs of these tags that have more than one recorded end. $1 tags; $2 ended since.
select e.id, e.attempt, count(*) as ends
from (select a.id, a.attempt from hotpath.job_attempt a where a.done_at >= $2::timestamptz
      union all
      select d.id, d.attempt from hotpath.job_done d where d.tag = any ($1::int8[]) and d.done_at >= $2) e
group by e.id, e.attempt having count(*) > 1 limit 1000
