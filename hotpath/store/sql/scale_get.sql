-- The scale of the group $1; no row: it has the defaults.
select min_workers, max_workers, target_seconds, cooldown_seconds, utilisation, processes, tags from hotpath.scale where worker_group = $1
