-- The result that a run has before its end; no row when it has none. $1 run.
select f.early from hotpath.flow_run f where f.id = $1 and f.early is not null
