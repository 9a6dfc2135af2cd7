-- All jobs of these leases have begun. $1 leases.
select hotpath.limit_begun($1::int8[])
