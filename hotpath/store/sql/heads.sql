-- The first due job of each of several tags, best first: which tag to claim from, and how far. $1 tags; $2 script.
select t.tag, h.priority, h.scheduled_for, h.id
from unnest($1::int8[]) as t (tag)
cross join lateral (
    select * from (
        (select priority, scheduled_for, id from hotpath.job_queue where tag = t.tag and script = $2::int4 and scheduled_for <= now()
            order by priority desc, scheduled_for, id limit 1)
        union all
        (select priority, scheduled_for, hotpath.job_id(base, next::int4) from hotpath.batch where tag = t.tag and script = $2 and next < n and scheduled_for <= now()
            order by priority desc, scheduled_for, base limit 1)) b
    order by priority desc, scheduled_for, id limit 1) h
order by h.priority desc, h.scheduled_for, h.id
