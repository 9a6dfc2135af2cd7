-- One job through the function that all clients use. $1 script, $2 args, $3 tag, $4 priority, $5 scheduled_for (null: now), $6 time-out in ms (null: the script's).
select hotpath.enqueue($1, $2::jsonb, $3, $4, coalesce($5, now()), $6)
