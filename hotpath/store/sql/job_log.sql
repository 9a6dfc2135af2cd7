-- What a job printed, attempt by attempt. $1 id; the time in it prunes partitions (5 minutes for clocks that differ). Without a text: it has
-- moved to an object, where it takes `size` bytes from byte `at` on.
select g.attempt, g.seq, g.text, null as store, null as object, null::int8 as at, null::int4 as size from hotpath.job_log g
where g.id = $1 and g.done_at >= hotpath.uuid_time($1) - interval '5 minutes'
union all
select m.attempt, m.seq, null, o.store, o.name, m.at, m.size
from hotpath.log_moved m join hotpath.log_object o on o.id = m.object where m.id = $1
order by attempt, seq
