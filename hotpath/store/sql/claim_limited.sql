-- A claim of a script that is claimed apart: under a limit, or with jobs that expire. The parameters are those of claim.sql, and so are the columns,
-- with two more: seconds until it is worth asking again (null: nothing is held back), and whether there is a rate.
select * from hotpath.claim_limited($1::int4, $2::int4, $3, $4::int4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
