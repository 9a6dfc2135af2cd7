-- Tags with jobs that wait or run: how many, counted up to $1 of a tag and priority, and since when the oldest is due. Loose jobs are found by
-- skipping from (tag, priority) to the next in the index, of up to $2 such pairs, so the cost follows their number and not the backlog. $3 about
-- how many loose jobs to count in all, a thousand of each pair at least (null: no such limit).
with recursive pair (tag, priority) as (
    (select tag, priority from hotpath.job_queue order by tag, priority desc limit 1)
    union all
    select n.tag, n.priority from pair cross join lateral (
        (select q.tag, q.priority, 1 as nth from hotpath.job_queue q where q.tag = pair.tag and q.priority < pair.priority
         order by q.priority desc limit 1)
        union all
        (select q.tag, q.priority, 2 from hotpath.job_queue q where q.tag > pair.tag order by q.tag, q.priority desc limit 1)
        order by nth limit 1) n
),
few_pairs as materialized (select * from pair limit $2::int8),
upto as materialized (select least($1::int8, greatest($3::int8 / greatest((select count(*) from few_pairs), 1), 1000)) as most),
loose as materialized (
    select pair.tag,
        (select count(*) from (select from hotpath.job_queue q where q.tag = pair.tag and q.priority = pair.priority limit (select most from upto)) c) as waiting,
        (select q.scheduled_for from hotpath.job_queue q where q.tag = pair.tag and q.priority = pair.priority and q.scheduled_for <= now()
         order by q.scheduled_for limit 1) as due
    from few_pairs pair
),
few as materialized (
    select tag, scheduled_for, n - next - case when skip is null then 0
        else (select count(*) from generate_series(next::int4, n - 1) k where get_bit(skip, k) = 1) end as waiting
    from hotpath.batch where next < n limit 20000
),
sealed as materialized (
    select tag, sum(waiting)::int8 as waiting, min(scheduled_for) filter (where scheduled_for <= now()) as due
    from few group by tag
),
held as materialized (
    select b.tag, sum(l.hi - l.lo - coalesce(bit_count(l.done), 0) - case when b.skip is null then 0
        else (select count(*) from generate_series(l.lo::int4, l.hi - 1) k where get_bit(b.skip, k) = 1) end)::int8 as running
    from hotpath.lease l join hotpath.batch b on b.base = l.batch group by b.tag
),
every as (
    select tag, waiting, 0 as running, due, waiting >= (select most from upto) as cut from loose
    union all select tag, waiting, 0, due, (select count(*) from few) >= 20000 from sealed
    union all select tag, 0, running, null, false from held
    union all select tag, 0, count(*), null, false from hotpath.aside group by tag
)
select hotpath.tag_name(tag) as tag, sum(waiting)::int8 as waiting, sum(running)::int8 as running, min(due) as oldest, bool_or(cut) as cut
from every group by tag order by 1
