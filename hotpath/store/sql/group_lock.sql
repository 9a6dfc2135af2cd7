-- The same, for who is about to change it. $1 name.
select name, config::text as config, revision, updated_at, updated_by from hotpath.worker_group where name = $1 for update
