-- Alert $1 says nothing for $2 seconds from now on (null: it may speak). Returns until when.
update hotpath.alert set silent_until = now() + $2::float8 * interval '1 second' where name = $1 returning silent_until
