-- Leases that these workers hold. $1 workers.
select count(*) from hotpath.lease where worker = any ($1::int4[])
