-- Drops counts by minute that are older than $1 days, or the oldest beyond $2 rows by the server's estimate, some thousands at a time; and what
-- nobody has said for long: of keepers that are gone, of tags that are not used any more. Returns how many rows.
with surplus as materialized (
    select greatest(c.reltuples::int8 - $2::int8, 0) as rows from pg_class c where c.oid = 'hotpath.minute'::regclass
),
old as materialized (
    select m.ctid as at, m.minute, row_number() over (order by m.minute, m.script, m.tag) as nth
    from (select ctid, * from hotpath.minute order by minute, script, tag limit 20000) m
),
minutes as (
    delete from hotpath.minute m using old, surplus s
    where m.ctid = old.at and (old.minute < now() - $1::int4 * interval '1 day' or old.nth <= s.rows) returning 1
),
keepers as (delete from hotpath.keeper_count c where c.said_at < now() - interval '7 days' returning 1),
totals as (delete from hotpath.total t where t.said_at < now() - interval '90 days' returning 1)
select (select count(*) from minutes) + (select count(*) from keepers) + (select count(*) from totals)
