-- Days (UTC) up to today that have a partition of logs, the oldest first, and how many blocks each has.
select to_date(right(c.relname, 8), 'YYYYMMDD') as day, pg_relation_size(c.oid) / current_setting('block_size')::int8 as blocks
from pg_catalog.pg_class p
join pg_catalog.pg_namespace n on n.oid = p.relnamespace and n.nspname = 'hotpath'
join pg_catalog.pg_inherits i on i.inhparent = p.oid and not i.inhdetachpending
join pg_catalog.pg_class c on c.oid = i.inhrelid
where p.relname = 'job_log' and c.relname ~ '^job_log_[0-9]{8}$' and right(c.relname, 8) <= to_char(now() at time zone 'UTC', 'YYYYMMDD')
order by day
