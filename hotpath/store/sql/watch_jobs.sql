-- Watch the logs of jobs. $1 jobs; $2 viewer; $3 for how many seconds from now.
select hotpath.watch_jobs($1, $2, $3)
