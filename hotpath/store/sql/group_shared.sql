-- Other groups that are dedicated to one of these scripts. $1 the group; $2 scripts.
select g.name, u.script from hotpath.worker_group g join unnest($2::text[]) with ordinality as u (script, ord) on g.config -> 'dedicated' ? u.script
where g.name <> $1 order by u.ord, g.name
