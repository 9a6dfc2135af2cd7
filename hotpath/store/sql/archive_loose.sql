-- Objects of a store that were begun and never finished, as somebody died in between. $1 store; $2 seconds since then; $3 how many.
select id, name from hotpath.log_object where not stored and store = $1::text and made_at < now() - $2::float8 * interval '1 second' order by made_at limit $3
