-- Which workers are these processes of this host? $1 process ids; $2 host; $3 tags they listen to.
select id from hotpath.worker where pid = any ($1::int4[]) and host = $2 and tags && $3::int8[] and stopped_at is null
