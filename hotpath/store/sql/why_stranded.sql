-- Why nobody would run a job in tag $1 of script $2; null: somebody does.
select hotpath.why_stranded($1, $2)
