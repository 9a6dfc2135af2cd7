-- A normal worker starts: one row for itself, beside those of the processes that it keeps. $1 name; $2 group; $3 tags that it listens to by name;
-- $4 all that it listens to, as patterns; $5 host; $6 pid; $7 slots; $8 lease, seconds; $9 version of the program.
insert into hotpath.worker (name, worker_group, tags, patterns, host, pid, concurrency, lease_until, program)
values ($1, $2, $3::int8[], $4::text[], $5, $6::int4, $7::int4, now() + $8::float8 * interval '1 second', $9)
returning id
