-- Says for how long things are kept. $1 script, or empty for all; $2 to $6 seconds of jobs, results, args and logs, and bytes; null: as it was said
-- before, if it was. $7 whether there is no bound any more.
insert into hotpath.retention as r (script, jobs, results, args, logs, disk)
values ($1::text, $2::float8, $3::float8, $4::float8, $5::float8, $6::int8)
on conflict (script) do update set jobs = coalesce(excluded.jobs, r.jobs), results = coalesce(excluded.results, r.results),
    args = coalesce(excluded.args, r.args), logs = coalesce(excluded.logs, r.logs), disk = case when not $7::bool then coalesce(excluded.disk, r.disk) end,
    changed_at = now()
