-- Whether jobs are due on these tags, of scripts that are not left out, wherever a claim would begin: one that found nothing has passed them.
-- $1 tags; $2 scripts that are left out; $3 how many to look at of each tag and priority: of what is left out there may be a million.
select exists (select from unnest($1::int8[]) as t (tag) where
    exists (
        with recursive p as (
            (select q.priority from hotpath.job_queue q where q.tag = t.tag order by q.priority desc limit 1)
            union all
            select (select q.priority from hotpath.job_queue q where q.tag = t.tag and q.priority < p.priority order by q.priority desc limit 1)
            from p where p.priority is not null)
        select from p cross join lateral (
            select from (select q.script from hotpath.job_queue q where q.tag = t.tag and q.priority = p.priority and q.scheduled_for <= now()
                order by q.scheduled_for, q.id limit $3::int4) f
            where f.script <> all ($2::int4[]) limit 1) due)
    or exists (
        with recursive p as (
            (select b.priority from hotpath.batch b where b.tag = t.tag and b.next < b.n order by b.priority desc limit 1)
            union all
            select (select b.priority from hotpath.batch b where b.tag = t.tag and b.next < b.n and b.priority < p.priority order by b.priority desc limit 1)
            from p where p.priority is not null)
        select from p cross join lateral (
            select from (select b.script from hotpath.batch b where b.tag = t.tag and b.priority = p.priority and b.next < b.n and b.scheduled_for <= now()
                order by b.scheduled_for, b.base limit $3) f
            where f.script <> all ($2) limit 1) due)) as due
