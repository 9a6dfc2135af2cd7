-- A script's current version, by the script's id. $1 script.
select v.id, s.id as script, s.name, s.tag, s.priority, v.hash, v.is_async, v.schema, v.settings, v.summary, v.kind, v.created_at,
    hotpath.tag_name(s.tag) as tag_name
from hotpath.script s join hotpath.script_version v on v.id = s.version
where s.id = $1::int4
