-- Jobs that are claimed before another one: those of its tag and script that are due, of higher priority, or of its own and earlier. $1 tag;
-- $2 script; $3 its priority, $4 scheduled_for and $5 id; $6 the batch that holds it, or null; $7 how many loose jobs of a priority to look
-- at, and batches. `cut`: there may be more. Each priority is a range of the index, so it reads what is ahead and nothing else.
with recursive p as (
    (select q.priority from hotpath.job_queue q where q.tag = $1::int8 order by q.priority desc limit 1)
    union all
    select (select q.priority from hotpath.job_queue q where q.tag = $1 and q.priority < p.priority order by q.priority desc limit 1)
    from p where p.priority > $3::int2
),
s as (
    (select b.priority from hotpath.batch b where b.tag = $1 and b.next < b.n order by b.priority desc limit 1)
    union all
    select (select b.priority from hotpath.batch b where b.tag = $1 and b.next < b.n and b.priority < s.priority order by b.priority desc limit 1)
    from s where s.priority > $3
),
loose as (
    select c.script, 1::int8 as jobs, null::int8 as nth from p cross join lateral (
        select q.script from hotpath.job_queue q where q.tag = $1 and q.priority = p.priority and q.scheduled_for <= now()
        order by q.scheduled_for, q.id limit $7::int8) c
    where p.priority > $3
    union all
    (select q.script, 1, null from hotpath.job_queue q where q.tag = $1 and q.priority = $3 and (q.scheduled_for, q.id) < ($4::timestamptz, $5::uuid)
        and q.scheduled_for <= now() order by q.scheduled_for, q.id limit $7)
),
sealed as (
    select c.* from s cross join lateral (
        select b.script, b.n, b.next, b.skip from hotpath.batch b where b.tag = $1 and b.priority = s.priority and b.next < b.n and b.scheduled_for <= now()
        order by b.scheduled_for, b.base limit $7) c
    where s.priority > $3
    union all
    (select b.script, b.n, b.next, b.skip from hotpath.batch b where b.tag = $1 and b.priority = $3 and b.next < b.n
        and (b.scheduled_for, b.base) < ($4, coalesce($6::uuid, $5)) and b.scheduled_for <= now() order by b.scheduled_for, b.base limit $7)
)
select (select count(*) from loose where script = $2::int4)
    + (select coalesce(sum(n - next - case when skip is null then 0
        else (select count(*) from generate_series(next::int4, n - 1) k where get_bit(skip, k) = 1) end), 0) from sealed where script = $2)::int8 as ahead,
    (select count(*) from loose) >= $7 or (select count(*) from sealed) >= $7 as cut
