-- A worker starts: a new id each time. $1 name; $2 group; $3 script; $4 version; $5 tags; $6 host; $7 pid; $8 concurrency; $9 lease, seconds;
-- $10 version of the program.
insert into hotpath.worker (name, worker_group, script, version, tags, host, pid, concurrency, lease_until, program)
values ($1, $2, $3::int4, $4::int4, $5::int8[], $6, $7::int4, $8::int4, now() + $9::float8 * interval '1 second', $10)
returning id
