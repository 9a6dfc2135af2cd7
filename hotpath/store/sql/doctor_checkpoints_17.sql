-- The same, from PostgreSQL 17 on.
select c.num_timed as timed, c.num_requested as requested, c.stats_reset as since from pg_catalog.pg_stat_checkpointer c
