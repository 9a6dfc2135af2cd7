-- Hotpath's tables that are not a day's: live and dead rows as the statistics have them, bytes with indexes, when vacuum last came, and whether it may.
select t.relname::text as name, t.n_live_tup as live, t.n_dead_tup as dead, pg_total_relation_size(t.relid) as bytes,
    greatest(t.last_vacuum, t.last_autovacuum) as vacuumed_at, exists (
        select from pg_catalog.pg_options_to_table(c.reloptions) o where o.option_name = 'autovacuum_enabled' and not o.option_value::boolean) as off
from pg_catalog.pg_stat_user_tables t join pg_catalog.pg_class c on c.oid = t.relid
where t.schemaname = 'hotpath' and c.relkind = 'r' and t.relname !~ '_[0-9]{8}$' order by t.relname
