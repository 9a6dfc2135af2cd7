-- What a job printed, attempt by attempt. $1 id; the time in it prunes partitions (5 minutes for clocks that differ).
select attempt, text from hotpath.job_log
where id = $1 and done_at >= hotpath.uuid_time($1) - interval '5 minutes'
order by attempt, seq
