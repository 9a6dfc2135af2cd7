-- Drop what was kept of those of these runs that have ended. $1 runs. Of how many nothing is kept any more; which are to be asked for once more.
select forgotten, more from hotpath.forget_runs($1)
