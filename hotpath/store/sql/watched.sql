-- Jobs that somebody watches and one of these workers has in hand: where (those of the lease that were canceled before the claim do not count, as to the
-- worker), which attempt it is, and the position at which what it prints
-- there begins (a run that was parked has printed before); and the clock, in microseconds. $1 workers; $2 how many at most.
with w as materialized (
    select distinct job from hotpath.watch where until > now() limit $2
),
l as materialized (
    select l.* from hotpath.lease l where l.worker = any ($1::int4[])
),
p as (
    select w.job, b.base, hotpath.ordinal_of(w.job) as k, b.attempts, b.skip
    from w join hotpath.batch b on b.base = hotpath.batch_of(w.job) and b.ids is null
    union all
    select u.id, b.base, (u.ord - 1)::int4, b.attempts, b.skip
    from (select distinct batch from l) t join hotpath.batch b on b.base = t.batch cross join lateral unnest(b.ids) with ordinality as u (id, ord)
    where b.ids is not null and u.id in (select job from w)
)
select p.job, l.worker, l.id as lease,
    (p.k - l.lo - (select count(*) from generate_series(l.lo, p.k - 1) c (k) where p.skip is not null and get_bit(p.skip, c.k) = 1))::int4 as index,
    coalesce(p.attempts[p.k + 1], 0)::int4 + 1 as attempt,
    coalesce((select sum(char_length(g.text) + case when g.marks[2] > 0 then g.marks[2] - g.marks[3] else 0 end) from hotpath.job_log g
        where g.id = p.job and g.attempt = coalesce(p.attempts[p.k + 1], 0) + 1 and g.seq < 0
        and g.done_at >= hotpath.uuid_time(p.job) - interval '5 minutes'), 0)::int8 as at,
    (extract(epoch from clock_timestamp()) * 1000000)::int8 as clock
from p join l on l.batch = p.base and p.k >= l.lo and p.k < l.hi and (l.done is null or get_bit(l.done, p.k - l.lo) = 0)
