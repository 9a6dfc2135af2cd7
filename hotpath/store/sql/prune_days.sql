-- The partitions of days that are over, and tables that were detached and not dropped, the oldest first, with what has been done to each.
select c.relname::text as name, p.relname::text as parent, to_date(right(c.relname, 8), 'YYYYMMDD') as day,
    case when i.inhrelid is null then 'detached' when i.inhdetachpending then 'pending' else 'attached' end as state,
    coalesce(pg_total_relation_size(c.oid), 0) as bytes, greatest(c.reltuples, 0)::int8 as rows,
    coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::int8 as blocks,
    pg_has_role(c.relowner, 'usage') and pg_has_role(p.relowner, 'usage') as mine,
    format('alter table hotpath.%I detach partition hotpath.%I %s', p.relname, c.relname, case when i.inhdetachpending then 'finalize' else 'concurrently' end)
        as detach,
    format('drop table hotpath.%I', c.relname) as remove,
    format('vacuum (skip_locked) hotpath.%I', c.relname) as vacuum
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'hotpath'
join pg_catalog.pg_class p on p.relnamespace = n.oid and p.relkind = 'p' and p.relname in ('job_done', 'job_attempt', 'job_log')
    and left(c.relname, -9) = p.relname
left join pg_catalog.pg_inherits i on i.inhrelid = c.oid and i.inhparent = p.oid
where c.relkind = 'r' and c.relname ~ '_[0-9]{8}$' and right(c.relname, 8) < to_char(now() at time zone 'UTC', 'YYYYMMDD')
order by day, case p.relname when 'job_log' then 1 when 'job_attempt' then 2 else 3 end
