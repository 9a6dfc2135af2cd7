-- The scale of the group $1, which nobody else changes before this transaction ends.
select min_workers, max_workers, target_seconds, cooldown_seconds, utilisation, processes, tags from hotpath.scale where worker_group = $1 for update
