-- What holds back vacuum of this database's tables, or locks on Hotpath's, for longer than $1 seconds; with the text of the statement as the server
-- has it. A slot has no time: `age` is in transactions.
select 'session' as kind, a.pid::text as who, a.usename::text as role, a.application_name as name, host(a.client_addr) as host, a.state,
    a.xact_start as since, a.query as statement, greatest(age(a.backend_xmin), age(a.backend_xid))::int8 as age
from pg_catalog.pg_stat_activity a
where a.datname = current_database() and a.backend_type = 'client backend' and a.pid <> pg_backend_pid() and a.xact_start < now() - $1::float8 * interval '1 second'
    and (a.backend_xmin is not null or a.backend_xid is not null or a.state like 'idle in transaction%' and exists (
        select from pg_catalog.pg_locks l join pg_catalog.pg_class c on c.oid = l.relation join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where l.pid = a.pid and n.nspname = 'hotpath'))
union all
select 'prepared', x.gid, x.owner::text, null, null, 'prepared', x.prepared, null, age(x.transaction)::int8
from pg_catalog.pg_prepared_xacts x where x.database = current_database() and x.prepared < now() - $1 * interval '1 second'
union all
select 'slot', s.slot_name::text, null, s.plugin::text, null, case when s.active then 'active' else 'inactive' end, null, null, age(s.xmin)::int8
from pg_catalog.pg_replication_slots s where s.xmin is not null and (s.database is null or s.database = current_database())
union all
select 'standby', r.pid::text, r.usename::text, r.application_name, host(r.client_addr), r.state, r.backend_start, null, age(r.backend_xmin)::int8
from pg_catalog.pg_stat_replication r where r.backend_xmin is not null and age(r.backend_xmin) > 100000
