-- All groups that are configured, by name.
select name, config::text as config, revision, updated_at, updated_by from hotpath.worker_group order by name
