-- Versions of the scripts that a flow's version runs now. $1 version.
select v.id, s.id as script, s.name, v.hash, v.is_async, v.schema, v.settings, v.summary, v.kind, v.created_at, t.step is not null as inline
from hotpath.version_step t join hotpath.script s on s.id = t.script join hotpath.script_version v on v.id = coalesce(t.step, s.version)
where t.version = $1 order by s.name
