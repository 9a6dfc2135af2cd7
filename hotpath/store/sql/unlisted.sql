-- Leases that workers hold and do not know of: the reply to their claim was lost. $1 workers; $2 the leases they know; $3 seconds since the claim, at least.
select l.worker, l.id
from unnest($1::int4[]) as u (id) join hotpath.lease l on l.worker = u.id
where l.id <> all ($2::int8[]) and l.claimed_at <= now() - $3::float8 * interval '1 second'
order by l.worker, l.id
