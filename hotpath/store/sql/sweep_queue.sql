-- Drops what queues were like longer than $1 days ago, or the oldest beyond $2 rows by the server's estimate, some thousands at a time. Returns how
-- many rows.
with surplus as materialized (
    select greatest(c.reltuples::int8 - $2::int8, 0) as rows from pg_class c where c.oid = 'hotpath.queue_minute'::regclass
),
old as materialized (
    select m.ctid as at, m.minute, row_number() over (order by m.minute, m.tag) as nth
    from (select ctid, * from hotpath.queue_minute order by minute, tag limit 20000) m
),
minutes as (
    delete from hotpath.queue_minute m using old, surplus s
    where m.ctid = old.at and (old.minute < now() - $1::int4 * interval '1 day' or old.nth <= s.rows) returning 1
),
looks as (delete from hotpath.queue_look where minute < now() - $1 * interval '1 day' returning 1)
select (select count(*) from minutes) + (select count(*) from looks)
