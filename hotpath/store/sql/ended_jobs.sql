-- Which of these jobs have ended. $1 jobs (by a join: `= any` would scan every partition), $2 time of the oldest of their ids.
select u.job from unnest($1::uuid[]) as u (job)
where exists (select from hotpath.job_done d where d.id = u.job and d.done_at >= $2)
