-- Pins of a script with jobs due among the first of tags. $1 script, $2 tags. Of each tag and priority the first thousand due are looked at: jobs that
-- nobody claims come to the head of a queue.
with pin as materialized (
    select id, name from hotpath.script where pin_of = $1::int4
)
select p.id, p.name from pin p where p.id in (
    select h.script from unnest($2::int8[]) as t (tag)
    cross join lateral (
        (with recursive r as (
            (select q.priority from hotpath.job_queue q where q.tag = t.tag order by q.priority desc limit 1)
            union all
            select (select q.priority from hotpath.job_queue q where q.tag = t.tag and q.priority < r.priority order by q.priority desc limit 1)
            from r where r.priority is not null)
        select j.script from r cross join lateral (
            select q.script from hotpath.job_queue q where q.tag = t.tag and q.priority = r.priority and q.scheduled_for <= now()
            order by q.scheduled_for, q.id limit 1000) j)
        union all
        (with recursive r as (
            (select b.priority from hotpath.batch b where b.tag = t.tag and b.next < b.n order by b.priority desc limit 1)
            union all
            select (select b.priority from hotpath.batch b where b.tag = t.tag and b.next < b.n and b.priority < r.priority order by b.priority desc limit 1)
            from r where r.priority is not null)
        select j.script from r cross join lateral (
            select b.script from hotpath.batch b where b.tag = t.tag and b.priority = r.priority and b.next < b.n and b.scheduled_for <= now()
            order by b.scheduled_for, b.base limit 1000) j)
    ) h
    where exists (select from pin))
