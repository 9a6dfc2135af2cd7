-- Jobs one by one, for a script whose keys have to be looked at; returns the ids. $1 script, $2 args of each, $3 tag, $4 priority, $5 scheduled_for
-- (null: now), $6 time-out in ms (null: the script's), $7 how many came before, for errors.
select hotpath.enqueue_each($1, $2::text[], $3, $4::int4, coalesce($5, now()), $6::int4, $7::int8)
