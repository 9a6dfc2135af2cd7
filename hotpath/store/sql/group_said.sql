-- With which revision of their group's configuration workers run, and why not with the newest (null: they do). $1 workers; $2 revision of each; $3 why not.
update hotpath.worker w set group_revision = u.revision, group_trouble = $3
from unnest($1::int4[], $2::int8[]) as u (id, revision)
where w.id = u.id and (w.group_revision is distinct from u.revision or w.group_trouble is distinct from $3)
