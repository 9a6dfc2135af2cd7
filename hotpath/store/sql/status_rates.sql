-- Jobs ended a second, by tag, over the last $1 seconds. job_done is appended to and has no index on time: look at the last 2,000 blocks (16 MiB) of today's
-- partition only; where they reach back less far, the rate is that of the time they cover.
with bound as materialized (
    select format('(%s,0)', greatest(pg_relation_size(to_regclass('hotpath.job_done_' || to_char(now() at time zone 'UTC', 'YYYYMMDD'))) / current_setting('block_size')::int8 - 2000, 0))::tid as first
),
tail as materialized (
    select tag, done_at from hotpath.job_done
    where done_at >= greatest(now() - $1::float8 * interval '1 second', date_trunc('day', now() at time zone 'UTC') at time zone 'UTC')
      and done_at < now() + interval '1 minute' and ctid >= (select first from bound)
),
covered as (
    select greatest(extract(epoch from now() - case when (select first from bound) = '(0,0)'::tid
        then greatest(now() - $1::float8 * interval '1 second', date_trunc('day', now() at time zone 'UTC') at time zone 'UTC')
        else (select min(done_at) from tail) end)::float8, 0.001) as seconds
)
select hotpath.tag_name(tag) as tag, count(*) / (select seconds from covered) as rate from tail group by tag
