-- A script and its current version. $1 name.
select v.id, s.id as script, s.name, s.tag, s.priority, v.hash, v.is_async, v.schema, v.settings, v.summary, v.kind, v.created_at
from hotpath.script s join hotpath.script_version v on v.id = s.version
where s.name = $1
