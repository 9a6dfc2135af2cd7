-- The current version of each of these scripts and, of a flow's, those of the scripts that it runs now: of those written in it the very ones, of others
-- their current ones. $1 scripts.
select s.id, s.version, array(
    select coalesce(t.step, p.version) from hotpath.version_step t join hotpath.script p on p.id = t.script where t.version = s.version order by 1) as steps
from hotpath.script s where s.id = any ($1::int4[])
