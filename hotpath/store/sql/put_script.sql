-- Makes a script, or gives it its new defaults. $1 name, $2 default tag, $3 default priority.
insert into hotpath.script as s (name, tag, priority) values ($1, hotpath.tag_id($2), $3)
on conflict (name) do update set tag = excluded.tag, priority = excluded.priority
returning s.id
