-- Whether nothing of this script is left to run on these tags: nothing due waits, nobody holds a lease, and nothing that has run already
-- waits for its next attempt. $1 tags; $2 script. Jobs scheduled for later do not count, save those due within 5 seconds: they may have
-- been put in as `now()` before the database's clock was set back. Priority by priority, as in heads.sql: one probe each.
-- Runs of flows that sleep, wait to try a step again, or for jobs of theirs, count: they go on by themselves. Those that wait for people do not,
-- also when they were retried.
select not exists (select from unnest($1::int8[]) as t (tag) where
        exists (select from hotpath.job_queue q where q.tag = t.tag and q.script = $2::int4 and q.attempt > 0 and q.expires_at is null
            and not exists (select from hotpath.mark m where m.run = q.id and m.key like 'suspend:%' and m.value ->> 'heard' is null
                and (m.value ->> 'required')::integer > (select count(*) from hotpath.flow_event e where e.run = m.run and e.key = substr(m.key, 9))))
        or exists (
            with recursive p as (
                (select q.priority from hotpath.job_queue q where q.tag = t.tag order by q.priority desc limit 1)
                union all
                select (select q.priority from hotpath.job_queue q where q.tag = t.tag and q.priority < p.priority order by q.priority desc limit 1)
                from p where p.priority is not null)
            select from p cross join lateral (
                select from hotpath.job_queue q where q.tag = t.tag and q.priority = p.priority and q.script = $2
                    and q.scheduled_for <= now() + interval '5 seconds' limit 1) due)
        or exists (
            with recursive p as (
                (select b.priority from hotpath.batch b where b.tag = t.tag and b.next < b.n order by b.priority desc limit 1)
                union all
                select (select b.priority from hotpath.batch b where b.tag = t.tag and b.next < b.n and b.priority < p.priority order by b.priority desc limit 1)
                from p where p.priority is not null)
            select from p cross join lateral (
                select from hotpath.batch b where b.tag = t.tag and b.priority = p.priority and b.script = $2 and b.next < b.n
                    and b.scheduled_for <= now() + interval '5 seconds' limit 1) due))
    and not exists (select from hotpath.flow_child c join hotpath.job_queue q on q.id = c.run where not c.done and q.script = $2 and q.tag = any ($1))
    and not exists (select from hotpath.mark m join hotpath.job_queue q on q.id = m.run
        where (m.key like 'sleep:%' or m.key like 'retry:%') and q.script = $2 and q.tag = any ($1)
            and (m.value ->> 'until')::numeric > extract(epoch from now()) * 1000000)
    and not exists (select from hotpath.lease l join hotpath.batch b on b.base = l.batch where b.script = $2 and b.tag = any ($1)) as drained
