-- Jobs of a schedule, the last tick first. $1 name, $2 how many.
select j.*
from (select t.* from hotpath.schedule_tick t join hotpath.schedule s on s.id = t.schedule where s.name = $1 order by t.at desc limit $2) t
cross join lateral hotpath.job_get(t.job) j
order by t.at desc
