-- The last ticks of a schedule that became jobs, the newest first. $1 its id, $2 how many.
select t.at, t.by_hand, t.job, j.state, j.started_at, j.duration_ms
from (select * from hotpath.schedule_tick where schedule = $1 order by at desc limit $2) t
left join lateral hotpath.job_get(t.job) j on true
order by t.at desc
