-- A worker has ended; what it holds is to be taken back. $1 worker; $2 jobs it has run. Its leases are locked in the order of their ids,
-- and then their batches, as by a flush, and stay so until the transaction ends.
with w as (update hotpath.worker set stopped_at = now(), last_ping = now(), lease_until = now(), jobs = greatest(jobs, $2::int8) where id = $1::int4 and stopped_at is null),
d as (delete from hotpath.doze where worker = $1),
l as materialized (select id, batch from hotpath.lease where worker = $1 order by id for update),
b as materialized (select base from hotpath.batch where base = any (array(select batch from l)) order by base for update)
select array(select id from l) as leases, (select count(*) from b) as batches, (extract(epoch from clock_timestamp()) * 1000000)::int8 as clock
