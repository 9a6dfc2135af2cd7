-- Ask for places of a flow with a `concurrent_limit`. $1 its script; $2 the limit; $3 runs. Returns those that have one.
select hotpath.admit_runs($1, $2, $3)
