-- The server at a glance: connections in use and the most there may be, bytes of this database, age of its oldest transaction number, the clock.
select (select count(*) from pg_catalog.pg_stat_activity a where a.backend_type = 'client backend') as used,
    current_setting('max_connections')::int4 - current_setting('superuser_reserved_connections')::int4 as most,
    pg_database_size(current_database()) as bytes, (select age(d.datfrozenxid) from pg_catalog.pg_database d where d.datname = current_database()) as age,
    current_setting('server_version_num')::int4 / 10000 as major, current_setting('server_version') as version, now() as now
