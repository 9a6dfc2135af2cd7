-- A claim by a normal worker: the best jobs of all its tags and scripts, in strict order, cut into segments of neighbours of one tag and
-- script; each becomes a batch (or is a slice of a sealed one) and a lease of the process that keeps the script warm.
-- $1 how many jobs; $2 how much work, microseconds; $3 to $6 tag and priority known to hold jobs, and position (scheduled_for, id) to look
-- from in each; $7, $8, $9 gaps between the known priorities of each tag; $10 to $13 processes that take jobs, the best of a script first: script,
-- worker, microseconds that a job costs, how many jobs it takes; $14 scripts that are left out; $15 bases for new batches; $16 ids for the
-- leases; $17 how many to look at of each tag and priority; $18 work that goes to one process at a time, microseconds; $19, $20 tags whose jobs
-- are worth more or less than their priority says, and what (else 0).
-- It stops in front of the first job of a script that has no process, or that is claimed apart (under a limit), and says which script and tag that
-- is, and what comes behind it (null: nothing of that tag's worth): apart no more may be taken than comes before that.
with
ready as materialized (
    select u.script, greatest(min(u.cost), 0.1) as cost, sum(u.room) as room, array_agg(u.worker order by u.ord) as workers
    from unnest($10::int4[], $11::int4[], $12::float8[], $13::int4[]) with ordinality as u (script, worker, cost, room, ord)
    where not exists (select from hotpath.script s where s.id = u.script and s.claim_apart)
    group by u.script
),
-- What is worth more comes before any priority.
worth as materialized (select w.tag, -65536::int8 * w.n as base from unnest($19::int8[], $20::int4[]) as w (tag, n)),
-- Priorities that nobody knew of, the highest of each gap.
news as materialized (
    select g.tag, t.priority, coalesce(w.base, 0) - t.priority as rank from unnest($7::int8[], $8::int2[], $9::int2[]) as g (tag, hi, lo)
    cross join lateral (
        select greatest(
            (select j.priority from hotpath.job_queue j where j.tag = g.tag and j.priority <= g.hi and j.priority >= g.lo and j.scheduled_for <= now()
                order by j.priority desc limit 1),
            (select b.priority from hotpath.batch b where b.tag = g.tag and b.next < b.n and b.priority <= g.hi and b.priority >= g.lo and b.scheduled_for <= now()
                order by b.priority desc limit 1)) as priority) t
    left join worth w on w.tag = g.tag
    where t.priority is not null
),
-- Below the news there may be more that nobody knows of: nothing of lower priority is taken this time.
span as materialized (
    select k.tag, k.priority, coalesce(w.base, 0) - k.priority as rank, k.since, k.since_id
    from unnest($3::int8[], $4::int2[], $5::timestamptz[], $6::uuid[]) as k (tag, priority, since, since_id) left join worth w on w.tag = k.tag
    where coalesce(w.base, 0) - k.priority <= coalesce((select min(rank) from news), 9223372036854775807)
    union all
    select n.tag, n.priority, n.rank, '-infinity', '00000000-0000-0000-0000-000000000000' from news n where n.rank = (select min(rank) from news)
),
seen as materialized (
    select s.tag, s.priority, s.rank, t.* from span s
    cross join lateral (
        (select j.script, j.scheduled_for, j.id, 1 as weight, null::uuid as base, j.ctid as place, coalesce(j.suspect, 0) as suspect,
            row_number() over (order by j.scheduled_for, j.id) as nth
         from hotpath.job_queue j
         where j.tag = s.tag and j.priority = s.priority and j.scheduled_for <= now() and (j.scheduled_for, j.id) >= (s.since, s.since_id)
         order by j.scheduled_for, j.id limit $17::int4)
        union all
        (select b.script, b.scheduled_for, hotpath.job_id(b.base, b.next::int4), b.n - b.next, b.base, null, 0,
            row_number() over (order by b.scheduled_for, b.base)
         from hotpath.batch b
         where b.tag = s.tag and b.priority = s.priority and b.next < b.n and b.scheduled_for <= now() and b.script <> all ($14::int4[])
         order by b.scheduled_for, b.base limit $17)) t
),
-- Where everything that was looked at is left out: the next claim begins behind it.
passed as materialized (
    select tag, priority, max(scheduled_for) filter (where nth = $17) as scheduled_for, (array_agg(id) filter (where nth = $17))[1] as id
    from seen where base is null and $14 <> '{}' group by tag, priority having count(*) = $17 and bool_and(script = any ($14))
),
-- Behind the last one that was looked at of a tag and priority there may be more: what comes after it is left for the next claim.
cut as materialized (select rank, scheduled_for, id from seen where nth = $17 order by rank, scheduled_for, id limit 1),
item as (
    select i.*, least(i.weight, i.allowed) as k, i.script_cost is not null and i.weight <= i.allowed as whole
    from (
        select s.*, r.cost as script_cost, r.workers,
            least(ceil(($2::float8 - coalesce(sum(s.weight * coalesce(r.cost, 0)) over before, 0)) / r.cost),
                $1::int4 - coalesce(sum(s.weight) over before, 0), r.room - coalesce(sum(s.weight) over before_own, 0)) as allowed,
            coalesce(sum(s.weight * coalesce(r.cost, 0)) over before, 0) as spent
        from seen s left join ready r on r.script = s.script
        where s.script <> all ($14::int4[])
            and not exists (select from cut c where (s.rank, s.scheduled_for, s.id) > (c.rank, c.scheduled_for, c.id))
        window before as (order by s.rank, s.scheduled_for, s.id rows between unbounded preceding and 1 preceding),
            before_own as (partition by s.script order by s.rank, s.scheduled_for, s.id rows between unbounded preceding and 1 preceding)) i
),
-- In front of what cannot be taken whole everything ends, or a later job would pass it.
chosen as materialized (
    select i.*, (i.script_cost is null or i.allowed < 1) as stops
    from (select *, coalesce(bool_and(whole) over (order by rank, scheduled_for, id rows between unbounded preceding and 1 preceding), true) as reached from item) i
    where i.reached
),
split as (
    select c.*, (lag(c.tag) over o, lag(c.script) over o) is distinct from (c.tag, c.script) or c.base is not null or lag(c.base) over o is not null
        or c.suspect > 0 or lag(c.suspect) over o > 0 or floor(c.spent / $18::float8) > floor(lag(c.spent) over o / $18)
        or row_number() over o % 500 = 1 as starts  -- a batch is no larger
    from chosen c where not stops window o as (order by rank, scheduled_for, id)
),
numbered as (
    select s.*, count(*) filter (where s.starts) over (order by rank, scheduled_for, id) as seg,
        count(*) filter (where s.starts) over (partition by s.script order by rank, scheduled_for, id) as own
    from split s
),
part as materialized (select * from numbered where seg <= cardinality($16::int8[])),
q as materialized (
    select ctid as place from hotpath.job_queue where ctid = any (array(select place from part where base is null)) and scheduled_for <= now()
    for update skip locked
),
d as materialized (
    delete from hotpath.job_queue where ctid = any (array(select place from q))
    returning id, priority, scheduled_for, attempt, crashes, suspect, timeout_ms, args
),
made as (
    insert into hotpath.batch (base, tag, script, priority, scheduled_for, n, next, open, ids, scheduled, priorities, attempts, crashes, suspects, timeouts, args)
    select ($15::uuid[])[s.seg], s.tag, s.script, max(s.priority), min(s.scheduled_for), count(*), count(*), count(*), array_agg(s.id), array_agg(s.scheduled_for),
        case when min(s.priority) < max(s.priority) then array_agg(s.priority) end, case when max(s.attempt) > 0 then array_agg(s.attempt) end,
        case when max(s.crashes) > 0 then array_agg(s.crashes) end, case when max(s.suspect) > 0 then array_agg(s.suspect) end,
        case when max(s.timeout_ms) > 0 then array_agg(s.timeout_ms) end, array_agg(s.args)
    from (select p.seg, p.tag, p.script, d.* from d join part p on p.id = d.id and p.base is null order by d.priority desc, d.scheduled_for, d.id) s
    group by s.seg, s.tag, s.script
    returning base, tag, script, 0 as lo, n::int4 as hi, ids, scheduled, priority, priorities, attempts, skip, suspects is not null as alone, timeouts, args
),
slice as materialized (
    select b.base, b.next, least(b.n - b.next, p.k)::int2 as k, p.seg from part p join hotpath.batch b on b.base = p.base
    where b.next < b.n for update of b skip locked
),
taken as (
    update hotpath.batch t set next = t.next + s.k from slice s where t.base = s.base
    returning s.seg, t.base, t.tag, t.script, s.next::int4 as lo, (s.next + s.k)::int4 as hi, t.ids, null::timestamptz[] as scheduled, t.priority,
        null::int2[] as priorities, t.attempts, t.skip, false as alone, t.timeouts, t.args
),
x as materialized (
    select array_position($15, m.base)::int8 as seg, m.* from made m
    union all
    select t.* from taken t
),
who as materialized (
    select distinct on (seg) seg, workers[1 + (own - 1) % cardinality(workers)] as worker from part order by seg
),
leased as (
    insert into hotpath.lease (id, worker, batch, lo, hi)
    select $16[x.seg], w.worker, x.base, x.lo, x.hi from x join who w on w.seg = x.seg
)
select
    cold.script as cold, cold.tag as cold_tag, exists (select from hotpath.script s where s.id = cold.script and s.claim_apart) as apart,
    behind.priority as behind_priority, behind.scheduled_for as behind_time, behind.id as behind_id,
    x.seg is null and exists (select from part) as saw, exists (select from cut) as cut,
    array(select tag from passed order by tag, priority) as passed_tags, array(select priority from passed order by tag, priority) as passed_priorities,
    array(select scheduled_for from passed order by tag, priority) as passed_times, array(select id from passed order by tag, priority) as passed_ids,
    (extract(epoch from clock_timestamp()) * 1000000)::int8 as clock,
    $16[x.seg] as lease, w.worker, x.script, x.tag, x.base, x.lo, x.hi, x.ids, x.attempts[x.lo + 1:x.hi] as attempts, x.skip,
    convert_to(array_to_json(x.args[x.lo + 1:x.hi])::text, 'UTF8') as args,
    x.priority, x.priorities, x.scheduled[x.hi] as until, case when x.priorities is not null then x.scheduled end as scheduled,
    x.timeouts[x.lo + 1:x.hi] as timeouts, x.alone,
    -- A claim alone need not wait for the disk: if the server forgets it, the lease is gone too and the job runs again.
    set_config('synchronous_commit', 'off', true) as asynchronous
from (select) one left join x on true left join who w on w.seg = x.seg
left join lateral (select c.* from chosen c where c.script_cost is null limit 1) cold on true
left join lateral (
    select s.priority, s.scheduled_for, s.id from seen s
    where (s.rank, s.scheduled_for, s.id) > (cold.rank, cold.scheduled_for, cold.id) and (s.tag, s.script) is distinct from (cold.tag, cold.script)
        and s.script <> all ($14) and s.rank + s.priority = cold.rank + cold.priority
    union all
    select -c.rank + cold.rank + cold.priority, c.scheduled_for, c.id from cut c where (c.rank, c.scheduled_for, c.id) > (cold.rank, cold.scheduled_for, cold.id)
        and c.rank - cold.rank - cold.priority between -32768 and 32767
    order by 1 desc, 2, 3 limit 1) behind on true
order by x.seg
