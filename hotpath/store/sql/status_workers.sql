-- Workers that have not stopped, and what each holds; those that were lost more than a day ago are left out, as nobody will come back for them.
-- $1 seconds: with those that have stopped so lately, of the 500 that were started last (null: without).
with shown as materialized (
    select * from hotpath.worker where stopped_at is null and last_ping > now() - interval '1 day'
    union all
    select * from (select * from hotpath.worker order by id desc limit 500) w where $1::float8 is not null and stopped_at > now() - $1 * interval '1 second'
)
select w.id, w.name, w.worker_group, s.name as script, coalesce(v.kind, 'script') as kind, w.host, w.pid, w.concurrency, w.started_at, w.last_ping,
    w.lease_until > now() as alive, w.stopped_at, w.jobs, array(select hotpath.tag_name(t) from unnest(w.tags) t) as tags, h.running,
    w.program, w.rss, w.cpu_us, w.under_way, w.occupied::float8[] as occupied, w.rates::float8[] as rates, w.deaf, w.patterns, o.hash as version,
    f.hash as refused, w.refusal, c.job, c.since
from shown w left join hotpath.script s on s.id = w.script left join hotpath.script_version v on v.id = s.version
left join hotpath.script_version o on o.id = w.version left join hotpath.script_version f on f.id = w.refused
cross join lateral (
    select coalesce(sum(l.hi - l.lo - coalesce(bit_count(l.done), 0) - case when b.skip is null then 0
        else (select count(*) from generate_series(l.lo::int4, l.hi - 1) k where get_bit(b.skip, k) = 1) end), 0)::int8 as running
    from hotpath.lease l join hotpath.batch b on b.base = l.batch where l.worker = w.id) h
-- The job whose code runs, as its supervisor saw it; of several at a time, if none is named, the one that was claimed first.
left join lateral (
    select coalesce(b.ids[k + 1], hotpath.job_id(b.base, k)) as job, since from (
        (select l.batch, l.lo + w.at_place as k, w.at_since as since from hotpath.lease l
         where l.id = w.at_lease and l.worker = w.id and w.at_place between 0 and l.hi - l.lo - 1 and (l.done is null or get_bit(l.done, w.at_place) = 0))
        union all
        (select l.batch, l.lo + u.k, l.claimed_at from hotpath.lease l cross join lateral generate_series(0, l.hi - l.lo - 1) as u (k)
         where w.concurrency > 1 and w.under_way > 0 and w.at_lease is null and l.worker = w.id and (l.done is null or get_bit(l.done, u.k) = 0)
         order by l.claimed_at, l.id, u.k limit 1)
        limit 1) j join hotpath.batch b on b.base = j.batch
    where b.skip is null or get_bit(b.skip, k) = 0) c on w.stopped_at is null
order by w.name
