-- A normal worker listens to other tags from now on. $1 worker; $2 tags that it listens to by name; $3 all, as patterns.
update hotpath.worker set tags = $2::int8[], patterns = $3::text[] where id = $1::int4
