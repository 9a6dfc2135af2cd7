-- The supervisor says that its workers live, and hears what they are asked to cancel. $1 workers; $2 jobs each has run so far;
-- $3 lease, seconds; $4 what workers say of themselves, a JSON array of objects with the names below (null: nothing new); $5 likewise what
-- was counted (null: nothing new), by script and tag; $6 the database's clock less their host's as last seen, in seconds, and $7 by how much that may
-- be wrong (null: not known). A row without a lease is a worker that was renewed (who is not there has lost its lease), and what the time is, in
-- microseconds since the epoch; one with a lease is a place of it that somebody wants canceled; one without a worker says that somebody watches logs,
-- and as its place 2 if a watched job waits, else 1.
with said as materialized (
    select * from json_to_recordset($4::json) as x (worker int4, rss int8, cpu_us int8, lease int8, place int4, ago float8, under_way int4,
        occupied real[], rates real[], deaf boolean)
),
alive as (
    update hotpath.worker w set last_ping = now(), lease_until = now() + $3::float8 * interval '1 second', jobs = greatest(w.jobs, u.jobs),
        rss = coalesce(s.rss, w.rss), cpu_us = coalesce(s.cpu_us, w.cpu_us),
        at_lease = case when s.worker is null then w.at_lease else s.lease end,
        at_place = case when s.worker is null then w.at_place else s.place end,
        at_since = case when s.worker is null then w.at_since else now() - s.ago * interval '1 second' end,
        under_way = coalesce(s.under_way, w.under_way), occupied = coalesce(s.occupied, w.occupied), rates = coalesce(s.rates, w.rates),
        deaf = coalesce(s.deaf, w.deaf), clock_apart = coalesce($6::float8, w.clock_apart), clock_unsure = coalesce($7::float8, w.clock_unsure)
    from unnest($1::int4[], $2::int8[]) as u (id, jobs) left join said s on s.worker = u.id
    where w.id = u.id and w.stopped_at is null and w.lease_until > now()
    returning w.id
),
counted as materialized (
    select * from json_to_recordset($5::json) as x (keeper int8, script int4, tag int8, counts int8[])
),
before as materialized (
    select c.* from counted u join hotpath.keeper_count c on c.keeper = u.keeper and c.script = u.script and c.tag = u.tag for update of c
),
kept as (
    insert into hotpath.keeper_count (keeper, script, tag, counts) select keeper, script, tag, counts from counted
    on conflict (keeper, script, tag) do update set counts = excluded.counts, said_at = now() where excluded.counts >= keeper_count.counts
),
-- In one order: other supervisors add to the same rows.
more as materialized (
    select u.script, u.tag, hotpath.counts_minus(u.counts, b.counts) as n
    from counted u left join before b on b.keeper = u.keeper and b.script = u.script and b.tag = u.tag order by u.script, u.tag
),
by_minute as (
    insert into hotpath.minute (minute, script, tag, success, failure, canceled, retried, busy_us)
    select date_trunc('minute', now()), script, tag, n[1], n[2], n[3], n[4], n[6] from more where 0 < any (n[1:4]) order by script, tag
    on conflict (minute, script, tag) do update set success = minute.success + excluded.success, failure = minute.failure + excluded.failure,
        canceled = minute.canceled + excluded.canceled, retried = minute.retried + excluded.retried, busy_us = minute.busy_us + excluded.busy_us
),
in_all as (
    insert into hotpath.total (script, tag, counts) select script, tag, n from more where 0 < any (n) order by script, tag
    on conflict (script, tag) do update set counts = hotpath.counts_plus(total.counts, excluded.counts), said_at = now()
)
select id as worker, null::int8 as lease, null::int4 as place, (extract(epoch from clock_timestamp()) * 1000000)::int8 as clock_us from alive
union all
select l.worker, l.id, k, null
from unnest($1) as u (id) join hotpath.lease l on l.worker = u.id
cross join lateral generate_series(0, l.hi - l.lo - 1) k
where l.cancels is not null and get_bit(l.cancels, k) = 1 and (l.done is null or get_bit(l.done, k) = 0)
union all
select null, null, case when exists (
        select from hotpath.watch v left join hotpath.batch b on b.base = hotpath.batch_of(v.job) and b.ids is null
        where v.until > now() and (exists (select from hotpath.job_queue q where q.id = v.job) or hotpath.ordinal_of(v.job) between b.next and b.n - 1))
    then 2 else 1 end, null
where exists (select from hotpath.watch v where v.until > now())
