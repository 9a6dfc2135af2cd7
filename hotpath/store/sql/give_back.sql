-- Put what leases still hold back into the queue, each job as a loose row with its own id; no attempt is charged.
-- $1 leases; $2 the worker that holds them, or null: only those whose worker is dead, by the database's clock (I6).
with l as materialized (
    select l.* from hotpath.lease l
    where l.id = any ($1::int8[]) and (l.worker = $2::int4
        or $2 is null and not exists (select from hotpath.worker w where w.id = l.worker and w.stopped_at is null and w.lease_until > now()))
    order by l.id for update of l skip locked
),
b as materialized (
    select * from hotpath.batch where base = any (array(select batch from l)) order by base for update
),
back as (
    insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, attempt, crashes, suspect, args)
    select coalesce(u.id, hotpath.job_id(b.base, (l.lo + u.ord - 1)::int4)), coalesce(u.scheduled, b.scheduled_for), b.tag, b.script,
        coalesce(u.priority, b.priority), coalesce(u.attempt, 0), u.crashes, u.suspect, u.args
    from l join b on b.base = l.batch
    cross join lateral rows from (unnest(b.args[l.lo + 1:l.hi]), unnest(b.ids[l.lo + 1:l.hi]), unnest(b.scheduled[l.lo + 1:l.hi]),
        unnest(b.priorities[l.lo + 1:l.hi]), unnest(b.attempts[l.lo + 1:l.hi]), unnest(b.crashes[l.lo + 1:l.hi]), unnest(b.suspects[l.lo + 1:l.hi]))
        with ordinality as u (args, id, scheduled, priority, attempt, crashes, suspect, ord)
    where (b.skip is null or get_bit(b.skip, (l.lo + u.ord - 1)::int4) = 0) and (l.done is null or get_bit(l.done, (u.ord - 1)::int4) = 0)
    returning tag
),
gone as (delete from hotpath.lease using l where lease.id = l.id),
closed as materialized (select batch, sum(hi - lo)::int2 as k from l group by batch),
emptied as (delete from hotpath.batch t using b join closed c on c.batch = b.base where t.base = b.base and b.open = c.k),
opened as (update hotpath.batch t set open = t.open - c.k from b join closed c on c.batch = b.base where t.base = b.base and b.open > c.k),
told as materialized (
    select pg_notify('hotpath', t.tag::text) from (select distinct tag from back) t
    where exists (select from hotpath.doze d where d.tag = t.tag and d.until > now())
)
select (select count(*) from back) as jobs, (select count(*) from l) as leases, (select count(*) from told) as told
