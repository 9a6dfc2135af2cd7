-- A full look at a tag: the priorities that hold waiting jobs, due or not, highest first, and when the next one is due.
-- $1 tag. Loose index scans: the cost is a few index probes a priority, plus dead entries at the head of each. `order by` names
-- the columns with their table: a bare `priority` is the output's cast, which no index has, and sorts all that waits.
with recursive loose as (
    (select q.priority::int4 from hotpath.job_queue q where q.tag = $1::int8 order by q.priority desc limit 1)
    union all
    select (select j.priority::int4 from hotpath.job_queue j where j.tag = $1 and j.priority < loose.priority order by j.priority desc limit 1)
    from loose where loose.priority is not null
),
sealed as (
    (select b.priority::int4 from hotpath.batch b where b.tag = $1 and b.next < b.n order by b.priority desc limit 1)
    union all
    select (select b.priority::int4 from hotpath.batch b where b.tag = $1 and b.next < b.n and b.priority < sealed.priority order by b.priority desc limit 1)
    from sealed where sealed.priority is not null
),
known as materialized (select priority::int2 from loose where priority is not null union select priority::int2 from sealed where priority is not null)
select coalesce((select array_agg(priority order by priority desc) from known), '{}') as priorities,
    extract(epoch from (select min(least(
        (select j.scheduled_for from hotpath.job_queue j where j.tag = $1 and j.priority = known.priority and j.scheduled_for > now() order by j.scheduled_for limit 1),
        (select b.scheduled_for from hotpath.batch b where b.tag = $1 and b.next < b.n and b.priority = known.priority and b.scheduled_for > now()
            order by b.scheduled_for limit 1))) from known) - clock_timestamp())::float8 as next_in
