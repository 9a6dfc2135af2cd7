-- What goes into the number of workers of the group $1, its scale, and the number as the database reckons it.
select f.*, hotpath.scale_need(f.waiting, f.held, f.work_seconds, f.service_seconds, f.arrivals, f.concurrency, f.occupied, f.min_workers, f.max_workers,
    f.target_seconds, f.utilisation) as wanted
from hotpath.scale_facts($1) f
