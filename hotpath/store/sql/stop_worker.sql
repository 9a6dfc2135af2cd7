-- A worker has ended; what it holds may be taken back at once. $1 worker; $2 jobs it has run.
with w as (update hotpath.worker set stopped_at = now(), last_ping = now(), lease_until = now(), jobs = greatest(jobs, $2::int8) where id = $1::int4 and stopped_at is null),
d as (delete from hotpath.doze where worker = $1)
select array(select id from hotpath.lease where worker = $1) as leases
