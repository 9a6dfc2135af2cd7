-- Tables on which a role lacks what a worker needs: this one, and `hotpath_worker` if there is one. Days' partitions are reached by their parents.
select r.rolname::text as role, quote_ident(r.rolname) as named, r.rolname = current_user as mine, c.relname::text as name
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'hotpath'
join pg_catalog.pg_roles r on r.rolname = current_user or r.rolname = 'hotpath_worker'
where c.relkind in ('r', 'p') and c.relname !~ '_[0-9]{8}$' and c.relname not in ('meta')
    and not (has_schema_privilege(r.oid, n.oid, 'usage') and has_table_privilege(r.oid, c.oid, 'select') and has_table_privilege(r.oid, c.oid, 'insert')
        and has_table_privilege(r.oid, c.oid, 'update') and has_table_privilege(r.oid, c.oid, 'delete'))
order by 1, 3
