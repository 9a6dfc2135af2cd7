-- Tags in which jobs wait, due or not, at most $1, and their names. Skips from one tag to the next in the index, so the cost follows their
-- number and not the backlog.
with recursive loose (tag) as (
    (select q.tag from hotpath.job_queue q order by q.tag limit 1)
    union all
    select (select q.tag from hotpath.job_queue q where q.tag > loose.tag order by q.tag limit 1) from loose where loose.tag is not null
),
sealed (tag) as (
    (select b.tag from hotpath.batch b where b.next < b.n order by b.tag limit 1)
    union all
    select (select b.tag from hotpath.batch b where b.next < b.n and b.tag > sealed.tag order by b.tag limit 1) from sealed where sealed.tag is not null
)
select t.tag, hotpath.tag_name(t.tag) as name
from ((select tag from loose where tag is not null limit $1::int8) union (select tag from sealed where tag is not null limit $1)) t
