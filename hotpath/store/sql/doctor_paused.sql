-- Tags that are paused, since when, by whom, and why.
select hotpath.tag_name(p.tag) as tag, p.until, p.reason, p.paused_by, p.paused_at from hotpath.tag_pause p
where p.until is null or p.until > now() order by p.paused_at
