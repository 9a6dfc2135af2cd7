-- Cancels a job that waits, or asks for the end of one that runs; false when it is unknown or has ended. $1 id.
select hotpath.cancel($1)
