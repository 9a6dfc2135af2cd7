-- A job that waits, and what is known of why. $1 id. No row: it does not wait, or there is none.
with q as (
    select q.tag, q.script, q.priority, q.scheduled_for, q.attempt, q.suspect, null::uuid as base, 0 as before
    from hotpath.job_queue q where q.id = $1::uuid
    union all
    select b.tag, b.script, b.priority, b.scheduled_for, 0::int2, null, b.base,
        hotpath.ordinal_of($1) - b.next - case when b.skip is null then 0
            else (select count(*)::int4 from generate_series(b.next::int4, hotpath.ordinal_of($1) - 1) k where get_bit(b.skip, k) = 1) end
    from hotpath.batch b
    where b.base = hotpath.batch_of($1) and b.ids is null and hotpath.ordinal_of($1) >= b.next and hotpath.ordinal_of($1) < b.n
        and (b.skip is null or get_bit(b.skip, hotpath.ordinal_of($1)) = 0)
)
select q.tag as tag_key, hotpath.tag_name(q.tag) as tag, q.script as script_id, s.name as script, coalesce(v.kind, 'script') as kind,
    q.priority::int4 as priority, q.scheduled_for, q.attempt::int4 as attempt, q.suspect::int4 as suspect, q.base, q.before, now() as now,
    f.most, f.ahead as slot_ahead,
    (select a.error from hotpath.job_attempts($1) a where q.attempt > 0 and a.attempt = q.attempt limit 1) as error,
    (v.settings -> 'retry' ->> 'attempts')::int4 as attempts
from q join hotpath.script s on s.id = q.script left join hotpath.script_version v on v.id = s.version
left join lateral (
    select f.most, (select count(*) from (select from hotpath.flow_slot o
        where o.script = f.script and not o.granted and (o.at, o.run) < (f.at, f.run) limit 10000) c)::int4 as ahead
    from hotpath.flow_slot f where f.run = $1 and not f.granted) f on true
