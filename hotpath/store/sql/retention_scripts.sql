-- Every script, since when there is one, and what its current version says of how long its jobs are kept.
select s.id, s.name, s.created_at, v.settings -> 'retention' as said
from hotpath.script s left join hotpath.script_version v on v.id = s.version order by s.name
