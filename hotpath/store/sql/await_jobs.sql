-- Says that somebody waits for these jobs' ends: the flush that ends one sends a NOTIFY. $1 client, $2 jobs, $3 seconds it holds.
-- Nobody waits for the disk to have it: a mark is a hint, and lost with the server that forgets it.
with hint as materialized (select set_config('synchronous_commit', 'off', true))
insert into hotpath.waiter (job, client, until)
select u.job, $1, clock_timestamp() + $3::float8 * interval '1 second' from unnest($2::uuid[]) as u (job) cross join hint order by u.job
on conflict (job, client) do update set until = excluded.until
