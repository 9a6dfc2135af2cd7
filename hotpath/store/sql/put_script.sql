-- Makes a script, with a default tag and priority for a start, and locks it. $1 name, $2 tag, $3 priority.
insert into hotpath.script as s (name, tag, priority) values ($1, hotpath.tag_id($2), $3)
on conflict (name) do update set name = s.name
returning s.id, s.version, s.deployed_at is not null as deployed
