-- The supervisor says that its workers live, and hears what they are asked to cancel. $1 workers; $2 jobs each has run so far;
-- $3 lease, seconds. A row without a lease is a worker that was renewed (who is not there has lost its lease); one with a lease is a
-- place of it that somebody wants canceled.
with alive as (
    update hotpath.worker w set last_ping = now(), lease_until = now() + $3::float8 * interval '1 second', jobs = greatest(w.jobs, u.jobs)
    from unnest($1::int4[], $2::int8[]) as u (id, jobs)
    where w.id = u.id and w.stopped_at is null and w.lease_until > now()
    returning w.id
)
select id as worker, null::int8 as lease, null::int4 as place from alive
union all
select l.worker, l.id, k
from unnest($1) as u (id) join hotpath.lease l on l.worker = u.id
cross join lateral generate_series(0, l.hi - l.lo - 1) k
where l.cancels is not null and get_bit(l.cancels, k) = 1 and (l.done is null or get_bit(l.done, k) = 0)
