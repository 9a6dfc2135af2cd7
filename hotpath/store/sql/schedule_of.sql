-- The schedule that a job is of, and the tick. $1 job.
select s.name, t.at, t.by_hand from hotpath.schedule_tick t join hotpath.schedule s on s.id = t.schedule where t.job = $1
