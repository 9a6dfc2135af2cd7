-- A claim with nothing to flush: the second half of cycle.sql, to the letter from `peek` to `made` (a test holds them together).
-- An idle worker's first claim is most of the time from an enqueue to `main`, and a statement half as large starts twice as fast.
-- $1 worker; $2 how many; $3 tag; $4 script; $5 priorities known to hold jobs, highest first; $6, $7 position (scheduled_for, id) to
--   look from in each; $8, $9 gaps between the known priorities; $10 base for a new batch; $11 id for the lease; $12, $13, $14 take
--   only what comes before this priority, scheduled_for and id (null: no such bound).
with
-- The best sealed batch, looked at and not yet locked.
peek as materialized (
    select h.* from (
        (select p.priority, t.scheduled_for, t.base, t.next from unnest($5::int2[]) as p (priority)
         cross join lateral (select scheduled_for, base, next from hotpath.batch where tag = $3 and script = $4 and next < n and priority = p.priority
             and scheduled_for <= now() order by scheduled_for, base limit 1) t
         limit 1)
        union all
        (select t.* from unnest($8::int2[], $9::int2[]) as g (hi, lo)
         cross join lateral (select priority, scheduled_for, base, next from hotpath.batch where tag = $3 and script = $4 and next < n
             and priority <= g.hi and priority >= g.lo and scheduled_for <= now() order by priority desc, scheduled_for, base limit 1) t
         limit 1)) h
    where $2::int4 > 0 order by priority desc, scheduled_for, base limit 1
),
-- Where loose jobs have to stop: at the batch's next job (those before it may have come back, as loose ones), or at the caller's bound.
stop as materialized (
    select s.* from (select priority, scheduled_for, hotpath.job_id(base, next::int4) as head, base from peek
        union all select $12::int2, $13::timestamptz, $14::uuid, null where $12 is not null) s
    order by priority desc, scheduled_for, head limit 1
),
-- The highest priority that nobody knew of.
news as materialized (
    select t.priority from unnest($8::int2[], $9::int2[]) as g (hi, lo)
    cross join lateral (select priority from hotpath.job_queue where tag = $3 and script = $4 and priority <= g.hi and priority >= g.lo
        and scheduled_for <= now() order by priority desc limit 1) t
    where $2 > 0 limit 1
),
-- Positions to take loose jobs from, in order: the known priorities above the stop and the news, then the one where they are.
span as materialized (
    select k.priority, k.since, k.since_id, 'infinity'::timestamptz as until, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid as until_id
    from unnest($5::int2[], $6::timestamptz[], $7::uuid[]) as k (priority, since, since_id)
    where k.priority > coalesce((select priority from stop), -32769) and k.priority > coalesce((select priority from news), -32769)
    union all
    select m.priority, coalesce(k.since, '-infinity'), coalesce(k.since_id, '00000000-0000-0000-0000-000000000000'),
        case when m.priority = m.stop then m.scheduled_for else 'infinity' end,
        case when m.priority = m.stop then m.head else 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid end
    from (select greatest(p.priority, n.priority) as priority, p.priority as stop, p.scheduled_for, p.head
          from (select) one left join stop p on true left join news n on true) m
    left join unnest($5::int2[], $6::timestamptz[], $7::uuid[]) as k (priority, since, since_id) on k.priority = m.priority
    where m.priority is not null
),
q as materialized (
    select t.place, t.suspect from span
    cross join lateral (select ctid as place, suspect from hotpath.job_queue j
        where j.tag = $3 and j.script = $4 and j.priority = span.priority and j.scheduled_for <= now()
          and (j.scheduled_for, j.id) >= (span.since, span.since_id) and (j.scheduled_for, j.id) < (span.until, span.until_id)
        order by j.scheduled_for, j.id limit $2 for update skip locked) t
    where $2 > 0 limit $2
),
d as materialized (
    -- Suspects (one of them killed its worker, nobody knows which) go in ever smaller company, at last alone (I7).
    delete from hotpath.job_queue where ctid = any (array(select place from q limit (
        select case when max(suspect) >= 3 then 1 when max(suspect) > 0 then greatest($2 >> (3 * max(suspect)), 1) end from q)))
    returning id, script, priority, scheduled_for, attempt, crashes, suspect, timeout_ms, args
),
made as (
    insert into hotpath.batch (base, tag, script, priority, scheduled_for, n, next, open, ids, scheduled, priorities, attempts, crashes, suspects, timeouts, args)
    select $10::uuid, $3, $4, max(s.priority), min(s.scheduled_for), count(*), count(*), count(*), array_agg(s.id), array_agg(s.scheduled_for),
        case when min(s.priority) < max(s.priority) then array_agg(s.priority) end, case when max(s.attempt) > 0 then array_agg(s.attempt) end,
        case when max(s.crashes) > 0 then array_agg(s.crashes) end, case when max(s.suspect) > 0 then array_agg(s.suspect) end,
        case when max(s.timeout_ms) > 0 then array_agg(s.timeout_ms) end, array_agg(s.args)
    from (select * from d order by priority desc, scheduled_for, id) s having count(*) > 0
    returning base, 0 as lo, n::int4 as hi, ids, scheduled, priority, priorities, attempts, skip, suspects is not null as alone, timeouts, args
),
-- No loose job comes before the batch: take a slice of it, as it is now that it is locked.
slice as materialized (
    select base, next, least(n - next, $2)::int2 as k from hotpath.batch
    where base = (select base from stop) and next < n and not exists (select from q) for update skip locked
),
taken as (
    update hotpath.batch t set next = t.next + s.k from slice s where t.base = s.base
    returning t.base, s.next::int4 as lo, (s.next + s.k)::int4 as hi, t.ids, null::timestamptz[], t.priority, null::int2[], t.attempts, t.skip,
        false, t.timeouts, t.args
),
x as (select * from made union all select * from taken),
leased as (insert into hotpath.lease (id, worker, batch, lo, hi) select $11::int8, $1, x.base, x.lo, x.hi from x)
select
    '{}'::int8[] as accepted, x.base, x.lo, x.hi, x.ids, x.attempts[x.lo + 1:x.hi] as attempts, x.skip,
    convert_to(array_to_json(x.args[x.lo + 1:x.hi])::text, 'UTF8') as args,
    x.priority, x.priorities, x.scheduled[x.hi] as until, case when x.priorities is not null then x.scheduled end as scheduled,
    case when x.base is null and $2 > 0 then
        exists (select from hotpath.job_queue where tag = $3 and script = $4 and scheduled_for <= now() and priority = any ($5) limit 1)
        or exists (select from peek) end as saw,
    (extract(epoch from clock_timestamp()) * 1000000)::int8 as clock,
    x.timeouts[x.lo + 1:x.hi] as timeouts, x.alone,
    -- A claim alone need not wait for the disk: if the server forgets it, the lease is gone too and the job runs again.
    set_config('synchronous_commit', 'off', true) as asynchronous
from (select) one left join x on true
