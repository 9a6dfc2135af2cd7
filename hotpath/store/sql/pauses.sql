-- Tags that are paused, by name, and how many seconds more (null: until they are resumed).
select hotpath.tag_name(p.tag) as tag, p.until, p.reason, p.paused_by, p.paused_at, extract(epoch from p.until - now())::float8 as seconds
from hotpath.tag_pause p where p.until is null or p.until > now()
order by 1
