-- Whether the database holds any table that is not the system's: an empty one may be given Hotpath's schema without asking.
select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and n.nspname not like 'pg\_%' and c.relkind in ('r', 'p'))
