-- Whether all tables together take more than they may.
select r.disk is not null and r.disk < (
    select coalesce(sum(pg_total_relation_size(c.oid)), 0) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'hotpath' and c.relkind in ('r', 'm')) as over
from hotpath.retention r where r.script = ''
