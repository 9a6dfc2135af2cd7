-- How jobs ended by minute, over the last $1 minutes and the one that is under way; minutes without any are left out. All tags together where
-- `tag` is null, and then tag by tag over the whole time.
select minute, null::text as tag, sum(success)::int8 as success, sum(failure)::int8 as failure, sum(canceled)::int8 as canceled, sum(busy_us)::int8 as busy_us
from hotpath.minute where minute >= date_trunc('minute', now()) - $1::int4 * interval '1 minute' group by minute
union all
select null, hotpath.tag_name(m.tag), success, failure, canceled, busy_us
from (select tag, sum(success)::int8 as success, sum(failure)::int8 as failure, sum(canceled)::int8 as canceled, sum(busy_us)::int8 as busy_us
      from hotpath.minute where minute >= date_trunc('minute', now()) - $1 * interval '1 minute' group by tag) m
order by minute
