-- Cancels a job that waits; false when it is unknown, done or running. $1 id.
select hotpath.cancel($1)
