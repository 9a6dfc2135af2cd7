-- `enqueue`, with a key of the caller's: the parameters are the same, and $7 key, $8 how long it counts, $9 what becomes of another job (each null:
-- as the script says).
select hotpath.enqueue($1, $2::jsonb, $3, $4, coalesce($5, now()), $6, $7, $8, $9)
