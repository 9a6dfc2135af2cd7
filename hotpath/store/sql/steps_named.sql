-- Keys of a run's steps, as they count now, that somebody may mean by a name. $1 run; $2 a key, or the last part of one; $3 how many at most.
-- `rank` 0: it is that key; 1: it ends so; 2: the step stands within it.
with k as (
    select d.step as key from hotpath.job_done d
    where d.parent = $1::uuid and d.done_at >= greatest(hotpath.uuid_time($1) - interval '5 minutes', (select f.since from hotpath.flow_run f where f.id = $1))
    union
    select c.key from hotpath.checkpoint c where c.run = $1
),
n as (
    select k.key, case when k.key = $2::text then 0 when regexp_replace(k.key, '^.*/', '') = $2 then 1
        when starts_with(k.key, $2 || '/') or starts_with(k.key, $2 || '[') then 2 end as rank
    from k
)
select n.key, n.rank, count(*) over (partition by n.rank) as number from n where n.rank is not null order by n.rank, length(n.key), n.key limit $3::int4
