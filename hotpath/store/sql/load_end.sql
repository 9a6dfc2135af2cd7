-- After jobs were copied in: remember an ad-hoc tag's name ($2, null: none), wake one that sleeps on the tag ($1) if they are due ($3 scheduled_for).
with seen as (
    insert into hotpath.tag_seen (id, name) select $1, $2::text
    where $2 is not null and not exists (select from hotpath.tag where id = $1) and not exists (select from hotpath.tag_seen where id = $1)
)
select pg_notify('hotpath', ($1::int8)::text)
where $3::timestamptz <= clock_timestamp() and exists (select from hotpath.doze where tag = $1 and until > clock_timestamp())
