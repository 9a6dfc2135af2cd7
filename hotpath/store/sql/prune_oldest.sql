-- Begin of the oldest day (UTC) that has a partition of results.
select min(to_date(right(c.relname, 8), 'YYYYMMDD'))::timestamp at time zone 'UTC' as oldest
from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
where i.inhparent = 'hotpath.job_done'::regclass and not i.inhdetachpending
