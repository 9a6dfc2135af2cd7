-- What holds a job back beside workers and other jobs. $1 its tag, $2 its script, $3 its id: whether the tag is paused, until when and why; the script's
-- limit, how many places of it are taken (of one with a key: by jobs with the key of this one), how many starts count, and from when on one less.
select p.tag is not null as paused, p.until, p.reason, p.paused_by, p.paused_at, s.limits, u.used, g.started, g.free_at
from hotpath.script s left join hotpath.tag_pause p on p.tag = $1::int8 and (p.until is null or p.until > now())
left join lateral (
    select coalesce(q.limit_key, case when s.limits ? 'key' then hotpath.limit_key_of(s.limits ->> 'key', q.id, q.args) end) as key
    from hotpath.job_queue q where q.id = $3::uuid) j on s.limits is not null
left join lateral (
    select case when not s.limits ? 'key' then hotpath.limit_used(s.limit_scope) else (
        select coalesce(sum(least(h.n, w.concurrency)), 0)::int4 from (
            select l.worker, count(*) as n
            from hotpath.lease l join hotpath.batch b on b.base = l.batch cross join lateral generate_series(l.lo::int4, l.hi - 1) k
            where b.script in (select c.id from hotpath.script c where c.limit_scope = s.limit_scope) and b.keys[k + 1] = j.key
                and (b.skip is null or get_bit(b.skip, k) = 0) and (l.done is null or get_bit(l.done, k - l.lo) = 0)
            group by l.worker) h left join hotpath.worker w on w.id = h.worker) end as used) u on s.limits ? 'concurrency'
left join lateral (
    select coalesce(sum(g.n), 0)::int4 as started, min(g.begun) + (s.limits ->> 'seconds')::float8 * interval '1 second' as free_at
    from hotpath.limit_start g where g.scope = s.limit_scope and (not s.limits ? 'key' or g.key = j.key)
        and (g.begun is null or g.begun > now() - (s.limits ->> 'seconds')::float8 * interval '1 second')) g on s.limits ? 'rate'
where s.id = $2::int4
