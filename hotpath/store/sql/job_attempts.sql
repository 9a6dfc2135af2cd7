-- Every run of a job that has ended, and the one under way, in order. $1 id.
select * from hotpath.job_attempts($1)
