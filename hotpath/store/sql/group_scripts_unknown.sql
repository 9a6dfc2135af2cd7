-- Scripts that nobody has registered. $1 names.
select u.name from unnest($1::text[]) with ordinality as u (name, ord)
where not exists (select from hotpath.script s where s.name = u.name and s.version is not null) order by u.ord
