-- Forget objects, which are deleted, and what they held. $1 their ids.
with m as (delete from hotpath.log_moved where object = any ($1::int8[]))
delete from hotpath.log_object where id = any ($1::int8[])
