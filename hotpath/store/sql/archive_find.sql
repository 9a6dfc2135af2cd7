-- Closed logs to move from these blocks of a day. $1 day; $2 first block; $3 block behind the last; $4 how many seconds old they have to be.
select id, attempt, seq, done_at, size, young from hotpath.logs_to_move($1::date, $2::int8, $3::int8, now() - $4::float8 * interval '1 second')
