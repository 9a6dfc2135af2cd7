-- After jobs of several tags ($1 names) were copied in: remember the names, wake those that sleep on one of them, if the jobs are due ($2).
with named as materialized (select hotpath.tag_id(u.name) as id, u.name from unnest($1::text[]) as u (name)),
seen as (
    insert into hotpath.tag_seen (id, name) select n.id, n.name from named n
    where not exists (select from hotpath.tag t where t.id = n.id) and not exists (select from hotpath.tag_seen t where t.id = n.id)
)
select pg_notify('hotpath', n.id::text) from named n
where $2::timestamptz <= clock_timestamp() and exists (select from hotpath.doze d where d.tag = n.id and d.until > clock_timestamp())
