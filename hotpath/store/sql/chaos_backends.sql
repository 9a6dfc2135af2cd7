-- Ends sessions of Hotpath, as an administrator might. $1 application names to end, or null: all that begin with `hotpath`, this
--   program's own aside; $2 of 128 of them, drawn by $3.
select count(pg_terminate_backend(a.pid))
from pg_stat_activity a
where a.datname = current_database() and a.pid <> pg_backend_pid() and a.application_name <> 'hotpath chaos'
  and case when $1::text[] is null then a.application_name like 'hotpath%' else a.application_name = any ($1) end
  and (hashint8extended(a.pid, $3::int8) & 127) < $2::int4
