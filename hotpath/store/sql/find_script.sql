-- A script and its current version. $1 name.
select v.id, s.id as script, s.name, s.tag, s.priority, v.hash, v.is_async, v.schema, v.settings, v.summary, v.kind, v.created_at,
    s.deployed_at is not null as deployed, exists (select from hotpath.version_file f where f.version = v.id) as stored
from hotpath.script s join hotpath.script_version v on v.id = s.version
where s.name = $1
