-- Tags with jobs that nobody will run, and what queues were like over the last days.

-- ---------------------------------------------------------------- stranded tags

-- Who runs jobs: each live worker once for every tag it listens to by name (`tag`), or once with its patterns. `script` null: it runs any. Who has
-- stopped within the grace counts: another one is about to take its place.
create function hotpath.listeners(grace interval default interval '0') returns table (worker integer, tag int8, patterns text[], script integer)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    with w as (
        select id, tags, patterns, script from hotpath.worker where stopped_at is null and (lease_until > now() or last_ping > now() - grace)
        union all
        select id, tags, patterns, script from (select * from hotpath.worker order by id desc limit 500) w where stopped_at > now() - grace
    )
    select w.id, t.tag, null::text[], w.script from w cross join lateral unnest(w.tags) as t (tag) where w.patterns is null
    union all
    select w.id, null, w.patterns, w.script from w where w.patterns is not null
$$;

create function hotpath.tag_paused(tag int8) returns boolean language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select exists (select from hotpath.tag_pause p where p.tag = tag_paused.tag and (p.until is null or p.until > now()))
$$;

-- Why nobody would run a job of this script that waits in this tag: it is `paused`, `no_worker` listens to it, or only workers of `other_script`s do;
-- null: somebody does. A script that is not known is one that nobody is dedicated to.
create function hotpath.why_stranded(tag text, script text) returns text language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select case when hotpath.tag_paused(hotpath.tag_id(why_stranded.tag)) then 'paused' when count(*) = 0 then 'no_worker'
        when count(*) filter (where l.script is null or l.script = s.id) = 0 then 'other_script' end
    from hotpath.listeners() l left join hotpath.script s on s.name = why_stranded.script
    where l.tag = hotpath.tag_id(why_stranded.tag) or hotpath.tag_listened(why_stranded.tag, l.patterns)
$$;

-- Tags with jobs that are due and that no live worker will run, for longer than `grace`, those that are paused left out: by tag and script, how many
-- (of the first thousand due of a tag and priority, fewer where there are many: `more`), since when, and why, as above. Tags are found by skipping through the index, at most 2,000
-- pairs of tag and priority, and only where no worker runs any script are jobs looked at: so the cost does not grow with the backlog. Jobs that
-- nobody claims gather at the head of a queue; those behind a long backlog of a script that is run are found when they get there.
create function hotpath.stranded_tags(grace interval default interval '5 seconds')
returns table (tag text, script text, waiting int8, more boolean, oldest timestamptz, why text)
language sql stable security definer set search_path = pg_catalog, pg_temp set jit = off as $$
    with recursive loose_pair (tag, priority) as (
        (select q.tag, q.priority from hotpath.job_queue q order by q.tag, q.priority desc limit 1)
        union all
        select n.tag, n.priority from loose_pair p cross join lateral (
            (select q.tag, q.priority, 1 as nth from hotpath.job_queue q where q.tag = p.tag and q.priority < p.priority
             order by q.priority desc limit 1)
            union all
            (select q.tag, q.priority, 2 from hotpath.job_queue q where q.tag > p.tag order by q.tag, q.priority desc limit 1)
            order by nth limit 1) n
    ),
    sealed_pair (tag, priority) as (
        (select b.tag, b.priority from hotpath.batch b where b.next < b.n order by b.tag, b.priority desc limit 1)
        union all
        select n.tag, n.priority from sealed_pair p cross join lateral (
            (select b.tag, b.priority, 1 as nth from hotpath.batch b where b.next < b.n and b.tag = p.tag and b.priority < p.priority
             order by b.priority desc limit 1)
            union all
            (select b.tag, b.priority, 2 from hotpath.batch b where b.next < b.n and b.tag > p.tag order by b.tag, b.priority desc limit 1)
            order by nth limit 1) n
    ),
    few_loose as materialized (select l.tag, l.priority from loose_pair l limit 2000),
    few_sealed as materialized (select s.tag, s.priority from sealed_pair s limit 2000),
    named as materialized (select f.tag, hotpath.tag_name(f.tag) as name from (select l.tag from few_loose l union select s.tag from few_sealed s) f),
    listener as materialized (select distinct l.tag, l.patterns, l.script from hotpath.listeners(grace) l),
    served as materialized (
        select n.tag, l.script from named n join listener l on l.tag = n.tag
        union
        select n.tag, l.script from named n join listener l on l.patterns is not null and hotpath.tag_listened(n.name, l.patterns)
    ),
    -- A tag without a name is one whose first job's transaction is about to say it.
    shut as materialized (
        select n.tag, n.name from named n where n.name is not null and not exists (select from served s where s.tag = n.tag and s.script is null)
            and not hotpath.tag_paused(n.tag)
    ),
    upto as materialized (
        select greatest(20000 / greatest((select count(*) from few_loose l join shut using (tag)), 1), 20)::int8 as pairs_most
    ),
    most as materialized (select least(pairs_most, 1000) as jobs, least(pairs_most, 100) as batches from upto),
    loose as (
        select l.tag, j.script, 1::int8 as jobs, greatest(j.scheduled_for, hotpath.uuid_time(j.id)) as since,
            row_number() over (partition by l.tag, l.priority) >= (select m.jobs from most m) as cut
        from few_loose l join shut using (tag) cross join lateral (
            select q.script, q.scheduled_for, q.id from hotpath.job_queue q where q.tag = l.tag and q.priority = l.priority and q.scheduled_for <= now()
            order by q.scheduled_for, q.id limit (select m.jobs from most m)) j
    ),
    sealed as (
        select s.tag, j.script, j.waiting::int8 as jobs, greatest(j.scheduled_for, hotpath.uuid_time(j.base)) as since,
            row_number() over (partition by s.tag, s.priority) >= (select m.batches from most m) as cut
        from few_sealed s join shut using (tag) cross join lateral (
            select b.script, b.scheduled_for, b.base, b.n - b.next - case when b.skip is null then 0
                else (select count(*) from generate_series(b.next::int4, b.n - 1) k where get_bit(b.skip, k) = 1) end as waiting
            from hotpath.batch b where b.tag = s.tag and b.priority = s.priority and b.next < b.n and b.scheduled_for <= now()
            order by b.scheduled_for, b.base limit (select m.batches from most m)) j
    ),
    every as (select * from loose union all select * from sealed)
    select h.name, c.name, sum(e.jobs)::int8, bool_or(e.cut), min(e.since),
        case when exists (select from served s where s.tag = e.tag) then 'other_script' else 'no_worker' end
    from every e join shut h using (tag) join hotpath.script c on c.id = e.script
    where not exists (select from served s where s.tag = e.tag and s.script = e.script)
    group by e.tag, h.name, c.name having sum(e.jobs) > 0 and min(e.since) <= now() - grace
    order by h.name, c.name
$$;

-- ---------------------------------------------------------------- what queues were like

-- Minutes in which somebody looked at the queues; the row is taken by whoever looks, and nobody looks twice. 14 days.
create table hotpath.queue_look (minute timestamptz not null primary key);

-- What was found in them: a row for each tag with jobs, of the fullest; `tag` 0 is all others together. How jobs ended is in hotpath.minute.
-- 14 days, and no more than a million rows: beyond that the hours that are older than a day become a row each, the greatest of its minutes.
create table hotpath.queue_minute (
    minute timestamptz not null,
    tag int8 not null,
    waiting int8 not null,             -- jobs that waited, later ones included; counted up to some 100,000
    running int8 not null,             -- jobs that workers held
    oldest_us int8,                    -- for how long the oldest job that was due had waited; null: none was due
    primary key (minute, tag)
);

-- Until when the rows of hotpath.minute and hotpath.queue_minute are hours; and when somebody looked last whether there are too many.
create table hotpath.rolled (
    name text not null primary key,
    until timestamptz not null,        -- an hour's beginning
    looked_at timestamptz not null default '-infinity'
);
insert into hotpath.rolled (name, until) select n, date_trunc('hour', now()) - interval '14 days' from unnest(array['minute', 'queue_minute']) n;

revoke all on hotpath.queue_look, hotpath.queue_minute, hotpath.rolled from public;
revoke all on function hotpath.listeners, hotpath.tag_paused, hotpath.why_stranded, hotpath.stranded_tags from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.queue_look, hotpath.queue_minute, hotpath.rolled to hotpath_worker;
        grant execute on function hotpath.listeners, hotpath.tag_paused, hotpath.why_stranded, hotpath.stranded_tags to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.queue_look, hotpath.queue_minute, hotpath.rolled to hotpath_read;
        grant execute on function hotpath.listeners, hotpath.tag_paused, hotpath.why_stranded, hotpath.stranded_tags to hotpath_read;
    end if;
end $$;
