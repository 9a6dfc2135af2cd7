-- Live workers that run another version of their script than the one that new jobs are checked against.
select w.name, s.name as script, left(mine.hash, 12) as runs, left(current.hash, 12) as deployed, current.created_at as since
from hotpath.worker w join hotpath.script s on s.id = w.script join hotpath.script_version mine on mine.id = w.version
join hotpath.script_version current on current.id = s.version
where w.stopped_at is null and w.lease_until > now() and w.version <> s.version order by w.name
