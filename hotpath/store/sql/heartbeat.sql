-- The supervisor says that its workers live. $1 workers; $2 jobs each has run so far; $3 lease, seconds. Those not returned have lost their lease.
update hotpath.worker w set last_ping = now(), lease_until = now() + $3::float8 * interval '1 second', jobs = u.jobs
from unnest($1::int4[], $2::int8[]) as u (id, jobs)
where w.id = u.id and w.stopped_at is null and w.lease_until > now()
returning w.id
