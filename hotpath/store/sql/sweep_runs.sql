-- Forget what ended runs have left, and cached results whose time is over. $1 runs with ids above this; $2 how many. The last one looked at; null: no more.
select hotpath.sweep_runs($1, $2)
