-- Workers do not run a version that they should. $1 workers, $2 the version (null: they never change theirs, or all is well), $3 why.
update hotpath.worker set refused = $2, refusal = left($3, 2000) where id = any ($1::int4[])
