-- A full look at several tags: of each that has jobs, the priorities that wait, due or not, highest first, and when the next one is due. $1 tags.
-- Loose index scans as in look.sql: the cost is a few index probes for a tag and for a priority.
select t.tag, k.priorities, extract(epoch from k.next - clock_timestamp())::float8 as next_in
from unnest($1::int8[]) as t (tag)
cross join lateral (
    with recursive loose as (
        (select q.priority::int4 from hotpath.job_queue q where q.tag = t.tag order by q.priority desc limit 1)
        union all
        select (select j.priority::int4 from hotpath.job_queue j where j.tag = t.tag and j.priority < loose.priority order by j.priority desc limit 1)
        from loose where loose.priority is not null
    ),
    sealed as (
        (select b.priority::int4 from hotpath.batch b where b.tag = t.tag and b.next < b.n order by b.priority desc limit 1)
        union all
        select (select b.priority::int4 from hotpath.batch b where b.tag = t.tag and b.next < b.n and b.priority < sealed.priority order by b.priority desc limit 1)
        from sealed where sealed.priority is not null
    ),
    known as materialized (select priority::int2 from loose where priority is not null union select priority::int2 from sealed where priority is not null)
    select (select array_agg(priority order by priority desc) from known) as priorities,
        (select min(least(
            (select j.scheduled_for from hotpath.job_queue j where j.tag = t.tag and j.priority = known.priority and j.scheduled_for > now()
                order by j.scheduled_for limit 1),
            (select b.scheduled_for from hotpath.batch b where b.tag = t.tag and b.next < b.n and b.priority = known.priority and b.scheduled_for > now()
                order by b.scheduled_for limit 1))) from known) as next) k
where k.priorities is not null
