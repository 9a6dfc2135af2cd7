-- Of up to 100 groups with a scale: what goes into the number of workers, and that number.
select s.worker_group as name, f.workers, f.waiting, f.is_cut, f.held, f.work_seconds, f.arrivals, f.service_seconds, f.min_workers, f.max_workers,
    hotpath.scale_need(f.waiting, f.held, f.work_seconds, f.service_seconds, f.arrivals, f.concurrency, f.occupied, f.min_workers, f.max_workers,
        f.target_seconds, f.utilisation) as wanted
from (select worker_group from hotpath.scale order by worker_group limit 100) s cross join lateral hotpath.scale_facts(s.worker_group) f
