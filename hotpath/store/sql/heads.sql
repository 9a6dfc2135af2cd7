-- The first due job of each of several tags, best first: which tag to claim from, and how far. $1 tags; $2 script.
-- Priority by priority, highest first: one probe each finds what is due, where a scan over all of them would walk every job that is
-- scheduled for later (servers before PostgreSQL 18 cannot skip).
select t.tag, h.priority, h.scheduled_for, h.id
from unnest($1::int8[]) as t (tag)
cross join lateral (
    select * from (
        (with recursive p as (
            (select q.priority from hotpath.job_queue q where q.tag = t.tag order by q.priority desc limit 1)
            union all
            select (select q.priority from hotpath.job_queue q where q.tag = t.tag and q.priority < p.priority order by q.priority desc limit 1)
            from p where p.priority is not null)
        select j.* from p cross join lateral (
            select q.priority, q.scheduled_for, q.id from hotpath.job_queue q
            where q.tag = t.tag and q.priority = p.priority and q.script = $2::int4 and q.scheduled_for <= now()
            order by q.scheduled_for, q.id limit 1) j
        limit 1)
        union all
        (with recursive p as (
            (select b.priority from hotpath.batch b where b.tag = t.tag and b.next < b.n order by b.priority desc limit 1)
            union all
            select (select b.priority from hotpath.batch b where b.tag = t.tag and b.next < b.n and b.priority < p.priority order by b.priority desc limit 1)
            from p where p.priority is not null)
        select j.* from p cross join lateral (
            select b.priority, b.scheduled_for, hotpath.job_id(b.base, b.next::int4) from hotpath.batch b
            where b.tag = t.tag and b.priority = p.priority and b.script = $2 and b.next < b.n and b.scheduled_for <= now()
            order by b.scheduled_for, b.base limit 1) j
        limit 1)) best
    order by priority desc, scheduled_for, id limit 1) h
order by h.priority desc, h.scheduled_for, h.id
