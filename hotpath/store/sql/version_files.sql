-- What versions consist of. $1 versions.
select f.version, f.path, f.main, f.content from unnest($1::int4[]) as v (id) join hotpath.version_file f on f.version = v.id order by f.version, f.path
