-- Try $2 to deliver word $1 failed: $3 says why. Another one in $4 seconds, unless it is older than $5, or that was the last ($6). Returns whether it is given up.
update hotpath.alert_word set problem = $3, next_at = now() + $4::float8 * interval '1 second',
    ended_at = case when $6::bool or said_at < now() - $5::float8 * interval '1 second' then now() end
where id = $1::int8 and tries = $2::int4 and ended_at is null returning ended_at is not null as given_up
