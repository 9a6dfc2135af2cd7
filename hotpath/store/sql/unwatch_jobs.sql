-- Watch the logs of these jobs no longer. $1 jobs; $2 viewer.
select hotpath.unwatch_jobs($1, $2)
