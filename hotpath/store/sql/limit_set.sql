-- Set a script's limit by command. $1 script, $2 limit as JSON ({}: none; null: what its version says), $3 who does so.
select hotpath.limit_set($1, $2::jsonb, $3)
