-- Makes a version the one that new jobs are checked against. $1 script, $2 hash.
update hotpath.script s set version = v.id
from hotpath.script_version v
where s.id = $1 and v.script = $1 and v.hash = $2
returning v.id, v.created_at
