-- Jobs of these tags that have not ended, and where they are. $1 tags; $2 how many at most.
select q.id, 'queued' as place, null::int4 as worker, false as alive from hotpath.job_queue q where q.tag = any ($1::int8[])
union all
select coalesce(b.ids[k + 1], hotpath.job_id(b.base, k)), 'batch', null, false
from hotpath.batch b cross join lateral generate_series(b.next::int4, b.n - 1) as k
where b.tag = any ($1) and b.next < b.n and (b.skip is null or get_bit(b.skip, k) = 0)
union all
select coalesce(b.ids[k + 1], hotpath.job_id(b.base, k)), 'lease', l.worker,
    exists (select from hotpath.worker w where w.id = l.worker and w.stopped_at is null and w.lease_until > now())
from hotpath.lease l join hotpath.batch b on b.base = l.batch cross join lateral generate_series(l.lo::int4, l.hi - 1) as k
where b.tag = any ($1) and (b.skip is null or get_bit(b.skip, k) = 0) and (l.done is null or get_bit(l.done, k - l.lo) = 0)
limit $2
