-- Replication slots that nobody reads, and how many bytes of WAL each keeps on the disk.
select s.slot_name::text as name, s.wal_status, pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::int8 as bytes
from pg_catalog.pg_replication_slots s where not s.active and s.restart_lsn is not null
