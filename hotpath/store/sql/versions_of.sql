-- All versions of one script: the current one first, then the newest. $1 name.
select v.id, s.id as script, s.name, hotpath.tag_name(s.tag) as tag_name, s.version = v.id as current,
    v.hash, v.is_async, v.schema, v.settings, v.summary, v.kind, v.created_at
from hotpath.script s join hotpath.script_version v on v.script = s.id
where s.name = $1
order by s.version = v.id desc, v.id desc
