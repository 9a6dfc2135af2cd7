-- A day has been gone through so far. $1 its part; $2 scripts whose jobs (logs) go, $3 whose results, $4 whose args; $5 where to go on, null: it is
-- through; $6 where it ends; $7 rows that were passed over.
insert into hotpath.pruned (part, jobs, results, args, at, until, passed_over)
values ($1::text, $2::int4[], $3::int4[], $4::int4[], $5::int8, $6::int8, $7::int8)
on conflict (part) do update set jobs = excluded.jobs, results = excluded.results, args = excluded.args, at = excluded.at, until = excluded.until,
    passed_over = excluded.passed_over, changed_at = now()
