-- Run a flow's run that has ended once more, from a step on; false when it is unknown or has not ended. $1 run; $2 key of the step.
select hotpath.retry_from($1, $2)
