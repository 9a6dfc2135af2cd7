-- How jobs ended over the last $1 minutes and the one that is under way: minute by minute, all tags together (those without any are left
-- out), and tag by tag over the whole time, where `minute` is null.
select m.minute, hotpath.tag_name(m.tag) as tag, m.success, m.failure, m.canceled, m.busy_us
from (select minute, tag, sum(success)::int8 as success, sum(failure)::int8 as failure, sum(canceled)::int8 as canceled, sum(busy_us)::int8 as busy_us
      from hotpath.minute where minute >= date_trunc('minute', now()) - $1::int4 * interval '1 minute'
      group by grouping sets ((minute), (tag))) m
order by m.minute
