-- The current version of each script, by name.
select v.id, s.id as script, s.name, hotpath.tag_name(s.tag) as tag_name, true as current,
    v.hash, v.is_async, v.schema, v.settings, v.summary, v.kind, v.created_at
from hotpath.script s join hotpath.script_version v on v.id = s.version
where s.pin_of is null
order by s.name
