-- Checkpoints that were made on time and because WAL had grown too much, up to PostgreSQL 16.
select b.checkpoints_timed as timed, b.checkpoints_req as requested, b.stats_reset as since from pg_catalog.pg_stat_bgwriter b
