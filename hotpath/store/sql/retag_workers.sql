-- Workers listen to other tags from now on. $1 workers; $2 tags.
update hotpath.worker set tags = $2::int8[] where id = any ($1::int4[])
