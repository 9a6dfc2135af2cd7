-- What a worker has to know before it claims: whether its script ($1) is claimed apart, and which of its tags ($2) are paused, for how many seconds
-- more (null: until they are resumed).
select coalesce((select s.claim_apart from hotpath.script s where s.id = $1::int4), false) as apart, p.paused, p.seconds
from (select coalesce(array_agg(p.tag), '{}') as paused, coalesce(array_agg(extract(epoch from p.until - now())::float8), '{}') as seconds
    from hotpath.tag_pause p where p.tag = any ($2::int8[]) and (p.until is null or p.until > now())) p
