-- Who might run a job. $1 its tag, $2 its script. Live workers that listen to the tag, at most 1,000; if there is none that runs the script,
-- the one that was there last, of the 2,000 that were started last.
with live as materialized (
    select w.* from hotpath.worker w where w.stopped_at is null and w.lease_until > now()
        and case when w.patterns is null then $1::int8 = any (w.tags) else hotpath.tag_listened(hotpath.tag_name($1), w.patterns) end
    limit 1000
),
last as (
    select w.* from (select * from hotpath.worker order by id desc limit 2000) w
    where $1 = any (w.tags) and w.script = $2::int4 and not exists (select from live where script = $2 or script is null)
    order by w.last_ping desc limit 1
)
select w.name, s.name as script, coalesce(w.script = $2, true) as fits, w.concurrency, w.last_ping, w.live, w.stopped_at is not null as stopped,
    w.rates[array_position(w.tags, $1)]::float8 as rate, exists (select from hotpath.lease l where l.worker = w.id) as busy
from (select *, true as live from live union all select *, false from last) w left join hotpath.script s on s.id = w.script
order by w.live desc, w.name
