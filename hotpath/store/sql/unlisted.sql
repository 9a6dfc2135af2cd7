-- Leases of this worker that it does not know of: the reply to their claim was lost. $1 worker; $2 the leases it knows.
select id from hotpath.lease where worker = $1::int4 and id <> all ($2::int8[])
