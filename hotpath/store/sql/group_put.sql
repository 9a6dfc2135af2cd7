-- Makes a group, or gives it another configuration and so another revision. $1 name; $2 configuration, JSON; $3 who.
insert into hotpath.worker_group as g (name, config, updated_by) values ($1, $2::text::jsonb, $3)
on conflict (name) do update set config = excluded.config, revision = excluded.revision, updated_at = now(), updated_by = excluded.updated_by
returning name, config::text as config, revision, updated_at, updated_by
