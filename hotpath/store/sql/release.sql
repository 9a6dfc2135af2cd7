-- Put some places of a lease back into the queue before they began, as loose rows; no attempt is charged. The lease stays, with these
-- places done, unless nothing is left of it. What somebody asked to cancel ends as canceled instead.
-- $1 lease; $2 the worker that holds it; $3 places, from 0 at the lease's first job.
with l as materialized (
    select l.*, coalesce((select array_agg(distinct p) from unnest($3::int4[]) p where p >= 0 and p < l.hi - l.lo), '{}') as places
    from hotpath.lease l where l.id = $1::int8 and l.worker = $2::int4 for update of l
),
b as materialized (
    select * from hotpath.batch where base = (select batch from l) for update
),
j as materialized (
    select coalesce(b.ids[k + 1], hotpath.job_id(b.base, k)) as id, coalesce(b.scheduled[k + 1], b.scheduled_for) as scheduled_for, b.tag, b.script,
        coalesce(b.priorities[k + 1], b.priority) as priority, coalesce(b.attempts[k + 1], 0::int2) as attempt, b.crashes[k + 1] as crashes,
        b.suspects[k + 1] as suspect, b.timeouts[k + 1] as timeout_ms, b.args[k + 1] as args, b.keys[k + 1] as limit_key, s.entry, l.worker,
        l.cancels is not null and get_bit(l.cancels, p) = 1 as canceled
    from l join b on b.base = l.batch left join hotpath.script s on s.id = b.script cross join lateral (select p, l.lo + p as k from unnest(l.places) p) u
    where (b.skip is null or get_bit(b.skip, k) = 0) and (l.done is null or get_bit(l.done, p) = 0)
),
back as (
    insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, attempt, crashes, suspect, timeout_ms, args, limit_key, expires_at)
    select id, scheduled_for, tag, script, priority, attempt, crashes, suspect, timeout_ms, args, limit_key,
        case when attempt = 0 then scheduled_for + (entry ->> 'expires')::float8 * interval '1 second' end
    from j where not canceled
    returning tag
),
ended as (
    insert into hotpath.job_done (id, scheduled_for, tag, script, worker, priority, attempt, state, args, error, timeout_ms)
    select id, scheduled_for, tag, script, worker, priority, attempt, 3, args, hotpath.error_object('JobCanceled', 'canceled before it started', 'canceled'), timeout_ms
    from j where canceled
    returning id
),
bits as materialized (
    select l.id, hotpath.set_bits(l.done, l.hi - l.lo, l.places) as done, l.hi - l.lo as size, l.lo, l.batch from l
),
closed as materialized (
    select t.id, t.batch, t.size::int2 as k from bits t join b on b.base = t.batch
    where not exists (select from generate_series(0, t.size - 1) p where get_bit(t.done, p) = 0 and (b.skip is null or get_bit(b.skip, t.lo + p) = 0))
),
gone as (delete from hotpath.lease using closed c where lease.id = c.id),
part as (update hotpath.lease l set done = t.done from bits t where l.id = t.id and not exists (select from closed)),
emptied as (delete from hotpath.batch t using b join closed c on c.batch = b.base where t.base = b.base and b.open = c.k),
opened as (update hotpath.batch t set open = t.open - c.k from b join closed c on c.batch = b.base where t.base = b.base and b.open > c.k),
woken as materialized (
    select pg_notify('hotpath', t.tag || ' back') from (select distinct tag from back) t
    where exists (select from hotpath.doze d where d.tag = t.tag and d.until > now())
),
told as materialized (
    select hotpath.tell(array_agg(w.job), array_agg(w.client)) from hotpath.waiter w where w.job in (select id from ended) having count(*) > 0
)
select (select count(*) from back) as jobs, (select count(*) from ended) as ended, (select count(*) from woken) + (select count(*) from told) as told
