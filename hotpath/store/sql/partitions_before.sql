-- Daily partitions that hold only what ended before a day (UTC): the statements that detach and drop each, the oldest first. $1 day; $2 their
-- tables. A detachment that was cut off half-way has to be finished. Tables that were detached and not dropped have no parent any more.
select c.relname as name,
    case when i.inhrelid is null then null else
        format('alter table hotpath.%I detach partition hotpath.%I %s', p.relname, c.relname, case when i.inhdetachpending then 'finalize' else 'concurrently' end)
        end as detach,
    format('drop table hotpath.%I', c.relname) as remove
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'hotpath'
join pg_catalog.pg_class p on p.relnamespace = n.oid and p.relkind = 'p' and p.relname = any ($2::text[])
    and left(c.relname, -9) = p.relname
left join pg_catalog.pg_inherits i on i.inhrelid = c.oid and i.inhparent = p.oid
where c.relkind = 'r' and c.relname ~ '_[0-9]{8}$' and right(c.relname, 8) < to_char($1::date, 'YYYYMMDD')
order by right(c.relname, 8), c.relname
