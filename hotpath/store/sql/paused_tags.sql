-- Tags that are paused, and for how many seconds more (null: until they are resumed).
select p.tag, extract(epoch from p.until - now())::float8 as seconds from hotpath.tag_pause p where p.until is null or p.until > now()
