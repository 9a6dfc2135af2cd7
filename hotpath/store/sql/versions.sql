-- All versions of all scripts: by name, the current one first, then the newest.
select v.id, s.id as script, s.name, hotpath.tag_name(s.tag) as tag_name, s.version = v.id as current,
    v.hash, v.is_async, v.schema, v.settings, v.summary, v.kind, v.created_at
from hotpath.script s join hotpath.script_version v on v.script = s.id
order by s.name, s.version = v.id desc, v.id desc
