-- One job, wherever it is. $1 id.
select * from hotpath.job_get($1)
