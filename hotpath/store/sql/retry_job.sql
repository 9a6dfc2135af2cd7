-- Runs a job that has ended once more, under its own id; false when it is unknown or has not ended. $1 id.
select hotpath.retry($1)
