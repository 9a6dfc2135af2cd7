-- How many jobs failed, and how many ended, by tag, over the last $1 seconds to the minute: of several spans at once, and each minute in one row alone.
-- A row of `within` n counts for the n longest of them.
with since as materialized (select array(select now() - s * interval '1 second' from unnest($1::float8[]) as s order by s desc) as ats),
ended as materialized (
    select width_bucket(m.minute, (select ats from since)) as within, m.tag, sum(m.failure)::int8 as failed,
        sum(m.success + m.failure + m.canceled)::int8 as ended
    from hotpath.minute m where m.minute >= (select ats[1] from since) group by 1, 2
),
named as materialized (select d.tag, hotpath.tag_name(d.tag) as name from (select distinct e.tag from ended e) d)
select e.within, n.name as tag, e.failed, e.ended from ended e join named n using (tag) where n.name is not null
