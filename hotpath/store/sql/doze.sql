-- A worker falls asleep on its tags: enqueuers find it and send a NOTIFY. $1 worker; $2 tags; $3 seconds it may be believed.
insert into hotpath.doze (worker, tag, until) select $1::int4, t, now() + $3::float8 * interval '1 second' from unnest($2::int8[]) as t
on conflict (tag, worker) do update set until = excluded.until
