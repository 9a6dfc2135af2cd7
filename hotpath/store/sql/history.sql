-- What queues were like from $1 until before $2, in steps of $3 minutes: the greatest of each step, and how many jobs ended in it. Of the $5 tags with
-- the most jobs that match the patterns $4 (null: all), and of all those together, where `tag` is null; no row where there was nothing.
with q as materialized (
    select tag, date_bin($3::int4 * interval '1 minute', minute, timestamptz '2000-01-01 00:00:00Z') as at, max(waiting) as waiting, max(running) as running,
        max(oldest_us) as oldest_us
    from hotpath.queue_minute where minute >= $1::timestamptz and minute < $2::timestamptz group by 1, 2
),
e as materialized (
    select tag, date_bin($3 * interval '1 minute', minute, timestamptz '2000-01-01 00:00:00Z') as at, sum(success)::int8 as success,
        sum(failure)::int8 as failure, sum(canceled)::int8 as canceled, sum(retried)::int8 as retried, sum(busy_us)::int8 as busy_us
    from hotpath.minute where minute >= $1 and minute < $2 group by 1, 2
),
found as (
    select tag, sum(jobs) as jobs from (
        select tag, max(waiting + running) as jobs from q group by tag
        union all select tag, sum(success + failure + canceled + retried) from e group by tag) u
    group by tag
),
-- A tag's name is said when its first job is there; until then its key has to do.
named as materialized (
    select tag, case when tag <> 0 then coalesce(hotpath.tag_name(tag), to_hex(tag)) else '*' end as name, jobs from found
),
wanted as materialized (
    select tag, name, row_number() over (order by jobs desc, name) as nth from named
    where $4::text[] is null or tag <> 0 and hotpath.tag_listened(name, $4)
),
-- Of all tags together the greatest is not the sum of the greatest, so they are added up minute by minute.
together as materialized (
    select date_bin($3 * interval '1 minute', minute, timestamptz '2000-01-01 00:00:00Z') as at, max(waiting) as waiting, max(running) as running
    from (select minute, sum(waiting)::int8 as waiting, sum(running)::int8 as running from hotpath.queue_minute
          where minute >= $1 and minute < $2 and ($4 is null or tag in (select w.tag from wanted w)) group by minute) m
    group by 1
),
every as (
    select w.name, q.at, q.waiting, q.running, q.oldest_us, null::int8 as success, null::int8 as failure, null::int8 as canceled,
        null::int8 as retried, null::int8 as busy_us
    from q join wanted w using (tag) where w.nth <= $5::int4
    union all
    select w.name, e.at, null, null, null, e.success, e.failure, e.canceled, e.retried, e.busy_us from e join wanted w using (tag) where w.nth <= $5
    union all
    select null, at, waiting, running, null, null, null, null, null, null from together
    union all
    select null, q.at, null, null, max(q.oldest_us), null, null, null, null, null from q join wanted w using (tag) group by q.at
    union all
    select null, e.at, null, null, null, sum(e.success), sum(e.failure), sum(e.canceled), sum(e.retried), sum(e.busy_us)
    from e join wanted w using (tag) group by e.at
)
select name as tag, at, max(waiting)::int8 as waiting, max(running)::int8 as running, max(oldest_us)::int8 as oldest_us, sum(success)::int8 as success,
    sum(failure)::int8 as failure, sum(canceled)::int8 as canceled, sum(retried)::int8 as retried, sum(busy_us)::int8 as busy_us
from every group by 1, 2 order by 1 nulls first, 2
