-- One job, once for a key. $1 hash of the key, $2 hash of the request, then as `enqueue_unique`: $3 script, $4 args, $5 tag, $6 priority,
-- $7 scheduled_for (null: now), $8 time-out in ms (null: the script's), $9 unique key, $10 how long it counts, $11 what becomes of another job.
select * from hotpath.enqueue_once($1, $2, $3, $4::jsonb, $5, $6, coalesce($7, now()), $8, $9, $10, $11)
