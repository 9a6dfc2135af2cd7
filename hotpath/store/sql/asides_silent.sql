-- What runs beside the work and was not heard of for $1 seconds.
select id, seen_at from hotpath.aside where seen_at < now() - $1::float8 * interval '1 second'
