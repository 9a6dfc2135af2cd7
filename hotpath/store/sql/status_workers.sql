-- Workers that have not stopped, and what each holds.
select w.name, w.worker_group, s.name as script, w.host, w.pid, w.concurrency, w.started_at, w.last_ping, w.lease_until > now() as alive, w.jobs,
    array(select hotpath.tag_name(t) from unnest(w.tags) t) as tags,
    (select coalesce(sum(l.hi - l.lo - coalesce(bit_count(l.done), 0) - case when b.skip is null then 0
        else (select count(*) from generate_series(l.lo::int4, l.hi - 1) k where get_bit(b.skip, k) = 1) end), 0)::int8
     from hotpath.lease l join hotpath.batch b on b.base = l.batch where l.worker = w.id) as running
from hotpath.worker w left join hotpath.script s on s.id = w.script
where w.stopped_at is null
order by w.name
