-- Whether somebody else is about to write an object. $1 store; $2 seconds that may take; $3 objects of one's own.
select exists (select from hotpath.log_object where not stored and store = $1::text and made_at > now() - $2::float8 * interval '1 second'
    and id <> all ($3::int8[]))
