-- Drop what was kept of those of these runs that have ended; of how many nothing is kept. $1 runs.
select hotpath.forget_runs($1)
