-- Stores what a version consists of, unless that is there. $1 version, $2 paths, $3 contents' hashes, $4 contents, $5 path of the main one.
with bodies as (
    insert into hotpath.content (hash, body) select distinct on (hash) hash, body from unnest($3::text[], $4::bytea[]) as c (hash, body) order by hash
    on conflict do nothing
)
insert into hotpath.version_file (version, path, main, content)
select $1::int4, path, path = $5, hash from unnest($2::text[], $3) as f (path, hash)
on conflict do nothing
