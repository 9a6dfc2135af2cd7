-- What was counted from the beginning (hotpath/core/tally.py has the layout), of the $1 pairs of script and tag that were said last.
select s.name as script, hotpath.tag_name(t.tag) as tag, t.counts
from (select * from hotpath.total order by said_at desc limit $1::int4) t join hotpath.script s on s.id = t.script order by s.name, t.tag
