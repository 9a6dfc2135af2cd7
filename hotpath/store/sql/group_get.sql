-- A group's configuration. $1 name.
select name, config::text as config, revision, updated_at, updated_by from hotpath.worker_group where name = $1
