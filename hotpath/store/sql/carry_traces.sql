-- Carry a trace with these jobs, or with all jobs of these sealed batches. $1 ids or bases, $2 traceparent.
select hotpath.carry_trace(n.job, $2) from unnest($1::uuid[]) n (job)
