-- Bytes that all of Hotpath's tables take, with their indexes; and the database's clock.
select coalesce(sum(pg_total_relation_size(c.oid)), 0)::int8 as bytes, now() as now
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'hotpath' and c.relkind in ('r', 'm')
