-- One worker cycle: write the outcomes of what ended, claim what comes next. One round trip, one transaction.
--
-- Flush. $1 worker; $2 leases touched; $3 whether each has ended whole; $4 where each one's outcomes begin in $6, $7 and $8 (from 0);
--   $5 bits of the places that end now or, when the lease ends whole, of those that ended before (null: none); $6 start of each job in microseconds of the worker's clock;
--   $7 duration in microseconds; $8 state, 0 for a job that has not ended now, or null: all succeeded; $9 per lease a JSON array of
--   results and errors, as UTF-8; $10 lease (from 1), $11 ordinal and $12 text of each log, and $27 its marks (null: none), as an array's literal; $13 what to add to the worker's clock
--   to have microseconds since the epoch by the database's.
-- Claim. $14 how many (0: none); $15 tag; $16 script; $17 priorities known to hold jobs, highest first; $18, $19 position
--   (scheduled_for, id) to look from in each; $20, $21 gaps between the known priorities; $22 base for a new batch; $23 id for the
--   lease; $24, $25, $26 take only what comes before this priority, scheduled_for and id (null: no such bound).
--
-- A lease row is the truth about a lease: outcomes count only if it is there, is this worker's, and does not have them yet (I2).
with f as materialized (
    select l.id, l.batch, l.lo, l.hi, l.done, u.final, u.at, u.bits, u.payload, u.ord
    from unnest($2::int8[], $3::bool[], $4::int4[], $5::bytea[], $9::bytea[]) with ordinality as u (id, final, at, bits, payload, ord)
    join hotpath.lease l on l.id = u.id and l.worker = $1::int4
        -- A lease goes only with all its places: an earlier flush that was never written would be lost with it (I1).
        and (not u.final or u.bits is null or hotpath.either_bits(l.done, u.bits) = l.done)
    for update of l
),
b as materialized (
    select * from hotpath.batch where base = any (array(select batch from f)) order by base for update
),
ended as (
    insert into hotpath.job_done (id, started_at, duration_us, scheduled_for, tag, script, worker, priority, attempt, state, args, result, error, timeout_ms)
    select coalesce(u.id, hotpath.job_id(b.base, (f.lo + u.ord - 1)::int4)), timestamptz 'epoch' + (u.started + $13::int8) * interval '1 microsecond', u.duration,
        coalesce(u.scheduled, b.scheduled_for), b.tag, b.script, $1, coalesce(u.priority, b.priority), coalesce(u.attempt, 0) + 1, coalesce(u.state, 1),
        u.args, case when coalesce(u.state, 1) = 1 then u.outcome end, case when u.state <> 1 then u.outcome end, u.timeout
    from f join b on b.base = f.batch
    cross join lateral rows from (unnest(($6::int8[])[f.at + 1:f.at + f.hi - f.lo]), unnest(($7::int8[])[f.at + 1:f.at + f.hi - f.lo]),
        unnest(($8::int2[])[f.at + 1:f.at + f.hi - f.lo]),
        json_array_elements(convert_from(f.payload, 'UTF8')::json), unnest(b.args[f.lo + 1:f.hi]), unnest(b.ids[f.lo + 1:f.hi]),
        unnest(b.scheduled[f.lo + 1:f.hi]), unnest(b.priorities[f.lo + 1:f.hi]), unnest(b.attempts[f.lo + 1:f.hi]),
        unnest(b.timeouts[f.lo + 1:f.hi]))
        with ordinality as u (started, duration, state, outcome, args, id, scheduled, priority, attempt, timeout, ord)
    -- As many outcomes as places: a payload such as `1,2` would shift its neighbours', so it is made an error (a division by zero).
    where case when u.outcome is null or u.ord > f.hi - f.lo then 1 / (u.ord - u.ord) = 1
        else coalesce(u.state, 1) <> 0 and (f.done is null or get_bit(f.done, (u.ord - 1)::int4) = 0) end
    returning id, attempt
),
logged as (
    insert into hotpath.job_log (id, attempt, text, marks)
    select coalesce(b.ids[u.k + 1], hotpath.job_id(b.base, u.k)), coalesce(b.attempts[u.k + 1], 0) + 1, u.text, u.marks::int8[]
    from unnest($10::int4[], $11::int4[], $12::text[], $27::text[]) as u (lease, k, text, marks)
    join f on f.ord = u.lease join b on b.base = f.batch
    where f.done is null or get_bit(f.done, u.k - f.lo) = 0
),
told as materialized (
    select hotpath.tell(array_agg(w.job), array_agg(w.client)) from hotpath.waiter w where w.job in (select id from ended) having count(*) > 0
),
gone as (delete from hotpath.lease l using f where l.id = f.id and f.final),
-- Places also end by other statements (released, retried, completed): the row's bits stay, whatever the worker knows of.
part as (update hotpath.lease l set done = hotpath.either_bits(f.done, f.bits) from f where l.id = f.id and not f.final),
closed as materialized (select batch, sum(hi - lo)::int2 as k from f where final group by batch),

-- The best sealed batch, looked at and not yet locked.
peek as materialized (
    select h.* from (
        (select p.priority, t.scheduled_for, t.base, t.next from unnest($17::int2[]) as p (priority)
         cross join lateral (select scheduled_for, base, next from hotpath.batch where tag = $15 and script = $16 and next < n and priority = p.priority
             and scheduled_for <= now() order by scheduled_for, base limit 1) t
         limit 1)
        union all
        (select t.* from unnest($20::int2[], $21::int2[]) as g (hi, lo)
         cross join lateral (select priority, scheduled_for, base, next from hotpath.batch where tag = $15 and script = $16 and next < n
             and priority <= g.hi and priority >= g.lo and scheduled_for <= now() order by priority desc, scheduled_for, base limit 1) t
         limit 1)) h
    where $14::int4 > 0 order by priority desc, scheduled_for, base limit 1
),
-- Where loose jobs have to stop: at the batch's next job (those before it may have come back, as loose ones), or at the caller's bound.
stop as materialized (
    select s.* from (select priority, scheduled_for, hotpath.job_id(base, next::int4) as head, base from peek
        union all select $24::int2, $25::timestamptz, $26::uuid, null where $24 is not null) s
    order by priority desc, scheduled_for, head limit 1
),
-- The highest priority that nobody knew of.
news as materialized (
    select t.priority from unnest($20::int2[], $21::int2[]) as g (hi, lo)
    cross join lateral (select priority from hotpath.job_queue where tag = $15 and script = $16 and priority <= g.hi and priority >= g.lo
        and scheduled_for <= now() order by priority desc limit 1) t
    where $14 > 0 limit 1
),
-- Positions to take loose jobs from, in order: the known priorities above the stop and the news, then the one where they are.
span as materialized (
    select k.priority, k.since, k.since_id, 'infinity'::timestamptz as until, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid as until_id
    from unnest($17::int2[], $18::timestamptz[], $19::uuid[]) as k (priority, since, since_id)
    where k.priority > coalesce((select priority from stop), -32769) and k.priority > coalesce((select priority from news), -32769)
    union all
    select m.priority, coalesce(k.since, '-infinity'), coalesce(k.since_id, '00000000-0000-0000-0000-000000000000'),
        case when m.priority = m.stop then m.scheduled_for else 'infinity' end,
        case when m.priority = m.stop then m.head else 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid end
    from (select greatest(p.priority, n.priority) as priority, p.priority as stop, p.scheduled_for, p.head
          from (select) one left join stop p on true left join news n on true) m
    left join unnest($17::int2[], $18::timestamptz[], $19::uuid[]) as k (priority, since, since_id) on k.priority = m.priority
    where m.priority is not null
),
q as materialized (
    select t.place, t.suspect from span
    cross join lateral (select ctid as place, suspect from hotpath.job_queue j
        where j.tag = $15 and j.script = $16 and j.priority = span.priority and j.scheduled_for <= now()
          and (j.scheduled_for, j.id) >= (span.since, span.since_id) and (j.scheduled_for, j.id) < (span.until, span.until_id)
        order by j.scheduled_for, j.id limit $14 for update skip locked) t
    where $14 > 0 limit $14
),
d as materialized (
    -- Suspects (one of them killed its worker, nobody knows which) go in ever smaller company, at last alone (I7).
    delete from hotpath.job_queue where ctid = any (array(select place from q limit (
        select case when max(suspect) >= 3 then 1 when max(suspect) > 0 then greatest($14 >> (3 * max(suspect)), 1) end from q)))
    returning id, script, priority, scheduled_for, attempt, crashes, suspect, timeout_ms, args
),
made as (
    insert into hotpath.batch (base, tag, script, priority, scheduled_for, n, next, open, ids, scheduled, priorities, attempts, crashes, suspects, timeouts, args)
    select $22::uuid, $15, $16, max(s.priority), min(s.scheduled_for), count(*), count(*), count(*), array_agg(s.id), array_agg(s.scheduled_for),
        case when min(s.priority) < max(s.priority) then array_agg(s.priority) end, case when max(s.attempt) > 0 then array_agg(s.attempt) end,
        case when max(s.crashes) > 0 then array_agg(s.crashes) end, case when max(s.suspect) > 0 then array_agg(s.suspect) end,
        case when max(s.timeout_ms) > 0 then array_agg(s.timeout_ms) end, array_agg(s.args)
    from (select * from d order by priority desc, scheduled_for, id) s having count(*) > 0
    returning base, 0 as lo, n::int4 as hi, ids, scheduled, priority, priorities, attempts, skip, suspects is not null as alone, timeouts, args
),
-- No loose job comes before the batch: take a slice of it, as it is now that it is locked. `b` is read first: its own FOR UPDATE
-- would pass over a row that `taken` has changed already, and the outcomes of that batch with it.
slice as materialized (
    select base, next, least(n - next, $14)::int2 as k from hotpath.batch
    where base = (select base from stop) and next < n and not exists (select from q) and (select count(*) from b) >= 0
    for update skip locked
),
taken as (
    update hotpath.batch t set next = t.next + s.k, open = t.open - coalesce((select c.k from closed c where c.batch = t.base), 0)
    from slice s where t.base = s.base
    returning t.base, s.next::int4 as lo, (s.next + s.k)::int4 as hi, t.ids, null::timestamptz[], t.priority, null::int2[], t.attempts, t.skip,
        false, t.timeouts, t.args
),
-- A batch row goes with its last job; one that `taken` changes has jobs left and is not touched twice.
emptied as (
    delete from hotpath.batch t using b join closed c on c.batch = b.base
    where t.base = b.base and b.open = c.k and not exists (select from slice s where s.base = b.base)
),
opened as (
    update hotpath.batch t set open = t.open - c.k from b join closed c on c.batch = b.base
    where t.base = b.base and b.open > c.k and not exists (select from slice s where s.base = b.base)
),
x as (select * from made union all select * from taken),
leased as (insert into hotpath.lease (id, worker, batch, lo, hi) select $23::int8, $1, x.base, x.lo, x.hi from x)
select
    array(select id from f) as accepted, x.base, x.lo, x.hi, x.ids, x.attempts[x.lo + 1:x.hi] as attempts, x.skip,
    convert_to(array_to_json(x.args[x.lo + 1:x.hi])::text, 'UTF8') as args,
    x.priority, x.priorities, x.scheduled[x.hi] as until, case when x.priorities is not null then x.scheduled end as scheduled,
    case when x.base is null and $14 > 0 then
        exists (select from hotpath.job_queue where tag = $15 and script = $16 and scheduled_for <= now() and priority = any ($17) limit 1)
        or exists (select from peek) end as saw,
    (extract(epoch from clock_timestamp()) * 1000000)::int8 as clock,
    x.timeouts[x.lo + 1:x.hi] as timeouts, x.alone,
    (select count(*) from told) as told,
    -- A claim alone need not wait for the disk: if the server forgets it, the lease is gone too and the job runs again.
    case when $2 = '{}' then set_config('synchronous_commit', 'off', true) end as asynchronous
from (select) one left join x on true
