-- Results that are cached and still good. $1 keys.
select c.key, convert_to(c.result::text, 'UTF8') as result from hotpath.flow_cache c where c.key = any ($1::bytea[]) and c.until > now()
