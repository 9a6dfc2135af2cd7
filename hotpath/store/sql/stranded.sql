-- Tags with jobs that are due and that no live worker will run, for longer than $1 seconds.
select tag, script, waiting, more, oldest, why from hotpath.stranded_tags($1::float8 * interval '1 second')
