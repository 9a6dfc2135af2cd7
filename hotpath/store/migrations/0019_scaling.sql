-- How many workers each group needs: the rule is in hotpath/core/scaling.py, what goes into it is read here.

-- What is wanted of a group; one without a row has the defaults. Edited by `hotpath autoscale set`.
create table hotpath.scale (
    worker_group text primary key,
    min_workers integer not null default 1 check (min_workers >= 0),
    max_workers integer not null default 10 check (max_workers >= 1),
    target_seconds float8 not null default 60 check (target_seconds >= 1),
    cooldown_seconds float8 not null default 120 check (cooldown_seconds >= 0),
    utilisation float8 not null default 0.8 check (utilisation > 0 and utilisation <= 1),
    processes integer check (processes >= 1),  -- workers of one command; null: as the group is configured
    tags text[],                       -- patterns; null: those of the group's configuration, or of its workers
    updated_at timestamptz not null default now(),
    check (min_workers <= max_workers)
);

-- Earlier looks at a group, to tell what arrives: what has ended since, and what waits more. Some minutes of them.
create table hotpath.scale_sample (
    worker_group text not null,
    at timestamptz not null default clock_timestamp(),
    present int8 not null,             -- jobs that waited or were held
    ended int8 not null,               -- attempts that had ended, from the beginning
    is_cut boolean not null,           -- not all were counted
    primary key (worker_group, at)
);

-- Jobs of a tag that are due and wait, counted up to about `most`: by skipping from priority to priority, so that what is due later costs nothing.
create function hotpath.scale_waiting(tag int8, most int8) returns int8 language sql stable
begin atomic
    with recursive step (priority) as (
        (select q.priority from hotpath.job_queue q where q.tag = scale_waiting.tag order by q.priority desc limit 1)
        union all
        select n.priority from step cross join lateral (
            select q.priority from hotpath.job_queue q where q.tag = scale_waiting.tag and q.priority < step.priority order by q.priority desc limit 1) n
    ),
    few as (select priority from step limit 100)
    select (coalesce((select sum(c.n) from few cross join lateral (
                select count(*) as n from (select from hotpath.job_queue q where q.tag = scale_waiting.tag and q.priority = few.priority
                    and q.scheduled_for <= now() limit scale_waiting.most) l) c), 0)
        + coalesce((select sum(b.n - b.next - case when b.skip is null then 0
                else (select count(*) from generate_series(b.next::int4, b.n - 1) k where get_bit(b.skip, k) = 1) end)
            from (select * from hotpath.batch b where b.tag = scale_waiting.tag and b.next < b.n limit 20000) b where b.scheduled_for <= now()), 0))::int8;
end;

-- Patterns of the tags that a group has: what the scale says; else the group's configuration; else its live workers; else the one that came last.
create function hotpath.scale_patterns(worker_group text) returns text[] language plpgsql stable set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    found_tags text[];
    config jsonb;
begin
    select s.tags into found_tags from hotpath.scale s where s.worker_group = scale_patterns.worker_group;
    if found_tags is not null then
        return found_tags;
    end if;
    if to_regclass('hotpath.worker_group') is not null then
        execute 'select config from hotpath.worker_group where name = $1' into config using scale_patterns.worker_group;
        select array_agg(distinct name) into found_tags from (
            select coalesce(e.value ->> 'tag', e.value ->> 'name', e.value ->> 'pattern', e.value #>> '{}') as name
            from jsonb_array_elements(case jsonb_typeof(config -> 'tags') when 'array' then config -> 'tags' else '[]' end) e
            union all
            select hotpath.tag_name(s.tag)
            from jsonb_array_elements(case jsonb_typeof(config -> 'dedicated') when 'array' then config -> 'dedicated' else '[]' end) e
            join hotpath.script s on s.name = coalesce(e.value ->> 'script', e.value ->> 'name', e.value #>> '{}')) c where name is not null;
        if found_tags is not null then
            return found_tags;
        end if;
    end if;
    select array_agg(distinct n.name) into found_tags from hotpath.worker w
        cross join lateral (select unnest(w.patterns) as name union all select hotpath.tag_name(t) from unnest(w.tags) t where w.patterns is null) n
        where w.stopped_at is null and w.lease_until > now() and coalesce(w.worker_group, 'default') = scale_patterns.worker_group and n.name is not null;
    if found_tags is not null then
        return found_tags;
    end if;
    select array(select n.name from (select unnest(w.patterns) as name union all select hotpath.tag_name(t) from unnest(w.tags) t where w.patterns is null) n
            where n.name is not null)
        into found_tags from hotpath.worker w where coalesce(w.worker_group, 'default') = scale_patterns.worker_group
            and (w.patterns is not null or cardinality(w.tags) > 0) order by w.id desc limit 1;
    return found_tags;
end $$;

-- Workers that one command of a group has: a normal one if the group has tags, and of each dedicated script so many processes; one if it has neither.
create function hotpath.scale_processes(worker_group text) returns integer language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    config jsonb;
begin
    if to_regclass('hotpath.worker_group') is not null then
        execute 'select config from hotpath.worker_group where name = $1' into config using scale_processes.worker_group;
    end if;
    return greatest(1, case jsonb_typeof(config -> 'dedicated') when 'array'
            then jsonb_array_length(config -> 'dedicated') * coalesce((config ->> 'processes')::integer, 1) else 0 end
        + case when jsonb_typeof(config -> 'tags') = 'array' and config -> 'tags' <> '[]' then 1 else 0 end);
end $$;

-- Ids of tags that fit the patterns: those that are named, and where there are wildcards or exclusions those with jobs, now or lately.
create function hotpath.scale_tags(patterns text[]) returns int8[] language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (select from unnest(patterns) p (name) where p.name like '%*%' or p.name like '!%') then
        return array(select distinct hotpath.tag_id(p.name) from unnest(patterns) p (name));
    end if;
    return array(
        with recursive loose (tag) as (
            (select q.tag from hotpath.job_queue q order by q.tag limit 1)
            union all
            select n.tag from loose cross join lateral (select q.tag from hotpath.job_queue q where q.tag > loose.tag order by q.tag limit 1) n
        ),
        known as (
            (select tag from loose limit 2000)
            union select b.tag from (select b.tag from hotpath.batch b where b.next < b.n limit 20000) b
            union select b.tag from hotpath.lease l join hotpath.batch b on b.base = l.batch
            union select t.tag from (select t.tag from hotpath.total t order by t.said_at desc limit 1000) t
        )
        select tag from known where hotpath.tag_listened(hotpath.tag_name(tag), patterns));
end $$;

-- What goes into the number of workers of a group, and its scale.
create function hotpath.scale_facts(worker_group text, out is_set boolean, out min_workers integer, out max_workers integer, out target_seconds float8,
    out cooldown_seconds float8, out utilisation float8, out processes integer, out patterns text[], out workers integer, out concurrency float8,
    out occupied float8, out waiting int8, out is_cut boolean, out held int8, out work_seconds float8, out service_seconds float8,
    out arrivals float8, out looked_ago float8, out ended int8, out tags jsonb)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    tag_keys int8[];
    hint float8;
    paused int8[] := '{}';
    before record;
begin
    select true, s.min_workers, s.max_workers, s.target_seconds, s.cooldown_seconds, s.utilisation, s.processes
        into is_set, min_workers, max_workers, target_seconds, cooldown_seconds, utilisation, processes
        from hotpath.scale s where s.worker_group = scale_facts.worker_group;
    if is_set is null then
        is_set := false; min_workers := 1; max_workers := 10; target_seconds := 60; cooldown_seconds := 120; utilisation := 0.8;
    end if;
    processes := coalesce(processes, hotpath.scale_processes(scale_facts.worker_group));
    -- Nobody is to be stopped in the midst of his work; who has nothing in hand just now is not, however occupied he was. Processes that a normal
    -- worker hands jobs to listen to nothing themselves, and are its slots.
    with row as materialized (
        select w.concurrency::float8 as concurrency, w.patterns is not null as is_normal, w.patterns is not null or cardinality(w.tags) > 0 as listens,
            case when coalesce(w.under_way, 0) > 0 or exists (select from hotpath.lease l where l.worker = w.id) then coalesce(w.occupied[1]::float8, 1)
                else 0 end as busy
        from hotpath.worker w where w.stopped_at is null and w.lease_until > now() and coalesce(w.worker_group, 'default') = scale_facts.worker_group
    )
    select count(*) filter (where r.listens), avg(r.concurrency) filter (where r.listens),
        coalesce(sum(r.busy) filter (where r.listens and not r.is_normal), 0)
            + coalesce(sum(r.busy) filter (where not r.listens), 0) / greatest(coalesce(avg(r.concurrency) filter (where r.is_normal), 1), 1)
        into workers, concurrency, occupied from row r;
    -- What has ended is counted every 10 seconds; until then, what workers say of themselves each second has to do.
    select sum(w.occupied[1]::float8 * w.concurrency) / nullif(sum(r.rate), 0) into hint from hotpath.worker w
        cross join lateral (select sum(u.rate::float8) as rate from unnest(w.rates) as u (rate)) r
        where w.stopped_at is null and w.lease_until > now() and coalesce(w.worker_group, 'default') = scale_facts.worker_group;
    if concurrency is null then
        select w.concurrency into concurrency from hotpath.worker w where coalesce(w.worker_group, 'default') = scale_facts.worker_group
            and (w.patterns is not null or cardinality(w.tags) > 0) order by w.id desc limit 1;
    end if;
    concurrency := greatest(coalesce(concurrency, 1), 1);
    patterns := hotpath.scale_patterns(scale_facts.worker_group);
    tag_keys := hotpath.scale_tags(patterns);
    if to_regclass('hotpath.tag_pause') is not null then
        execute 'select array(select p.tag from hotpath.tag_pause p where p.until is null or p.until > now())' into paused;
    end if;
    with recent as materialized (
        select m.tag, sum(m.busy_us)::float8 as busy, sum(m.success + m.failure + m.canceled + m.retried)::float8 as n from hotpath.minute m
        where m.minute >= now() - interval '15 minutes' and m.tag = any (tag_keys) group by m.tag
    ),
    always as materialized (
        select t.tag, sum(t.counts[6])::float8 as busy, sum(t.counts[1] + t.counts[2] + t.counts[3] + t.counts[4])::float8 as n
        from hotpath.total t where t.tag = any (tag_keys) group by t.tag
    ),
    mean as materialized (
        select coalesce((select sum(busy) / nullif(sum(n), 0) from recent) / 1e6, (select sum(busy) / nullif(sum(n), 0) from always) / 1e6, hint) as service
    ),
    each as materialized (
        select i.tag, coalesce(r.busy / nullif(r.n, 0) / 1e6, a.busy / nullif(a.n, 0) / 1e6, (select service from mean)) as service, coalesce(a.n, 0) as ended
        from unnest(tag_keys) as i (tag) left join recent r on r.tag = i.tag left join always a on a.tag = i.tag
    ),
    -- Beyond what takes all workers that there may be, it is no use to count; nor half a million at once.
    upto as materialized (
        select e.*, case when service is null then 10000 else ceil(least(500000,
            scale_facts.concurrency * scale_facts.max_workers * greatest(scale_facts.target_seconds / greatest(service, 1e-6), 1) + 1))::int8 end as most
        from each e
    ),
    counted as materialized (select u.*, case when u.tag = any (paused) then 0 else hotpath.scale_waiting(u.tag, u.most) end as waiting from upto u),
    taken as materialized (
        select sum(l.hi - l.lo - coalesce(bit_count(l.done), 0)) as n from hotpath.lease l join hotpath.batch b on b.base = l.batch where b.tag = any (tag_keys)
    )
    select coalesce(sum(c.waiting), 0), coalesce(bool_or(c.waiting >= c.most), false), (select coalesce(n, 0) from taken),
        case when (select service from mean) is not null then coalesce(sum(c.waiting * c.service), 0) end, (select service from mean),
        coalesce(sum(c.ended), 0), (select jsonb_agg(jsonb_build_object('tag', hotpath.tag_name(t.tag), 'waiting', t.waiting, 'service_seconds', t.service)
            order by t.waiting desc, t.tag) from (select * from counted where waiting > 0 order by waiting desc limit 20) t)
        into waiting, is_cut, held, work_seconds, service_seconds, ended, tags from counted c;
    -- The oldest look of the last two minutes: what has ended since, and what is there more than then, has arrived. One that is younger than 30
    -- seconds tells little, as workers say every 10 seconds what has ended.
    select s.present, s.ended, s.is_cut, extract(epoch from clock_timestamp() - s.at)::float8 as ago into before from hotpath.scale_sample s
        where s.worker_group = scale_facts.worker_group and s.at > clock_timestamp() - interval '2 minutes' and s.at < clock_timestamp() - interval '30 seconds'
        order by s.at limit 1;
    if found then
        looked_ago := before.ago;
        arrivals := greatest(0, ended - before.ended + case when is_cut or before.is_cut then 0 else waiting + held - before.present end) / before.ago;
    end if;
end $$;

-- The rule of hotpath/core/scaling.py.
create function hotpath.scale_need(waiting int8, held int8, work_seconds float8, service_seconds float8, arrivals float8, concurrency float8,
    occupied float8, min_workers integer, max_workers integer, target_seconds float8, utilisation float8) returns integer
language sql immutable parallel safe
begin atomic
    select greatest(min_workers, least(max_workers, greatest(case when waiting + held > 0 then 1 else 0 end,
            least(ceil(greatest(p.arriving + p.draining, occupied, p.stuck + p.draining) - 1e-9), 10000)::integer)))
    from (select case when service_seconds is null or arrivals is null then 0
                else arrivals * least(service_seconds, target_seconds) / (concurrency * utilisation) end as arriving,
            case when work_seconds is null then 0 else least(work_seconds / (concurrency * target_seconds), waiting / concurrency) end as draining,
            case when service_seconds > target_seconds then occupied * (1 - target_seconds / service_seconds) else 0 end as stuck) p;
end;

-- How many workers the group needs now: what KEDA's postgresql scaler asks. `select hotpath.workers_wanted('default')`
create function hotpath.workers_wanted(worker_group text) returns integer language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select hotpath.scale_need(f.waiting, f.held, f.work_seconds, f.service_seconds, f.arrivals, f.concurrency, f.occupied, f.min_workers, f.max_workers,
        f.target_seconds, f.utilisation)
    from hotpath.scale_facts(workers_wanted.worker_group) f;
end;

-- Remembers how a group looks now, for the next look to compare with.
create function hotpath.scale_look(worker_group text) returns void language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    insert into hotpath.scale_sample (worker_group, present, ended, is_cut)
        select scale_look.worker_group, f.waiting + f.held, f.ended, f.is_cut from hotpath.scale_facts(scale_look.worker_group) f
        on conflict do nothing;
    delete from hotpath.scale_sample s where s.worker_group = scale_look.worker_group and s.at < now() - interval '5 minutes';
end $$;

-- The same for each group that has a scale and was not looked at just now; several at once do it once. Returns how many.
create function hotpath.scale_look_at_all() returns integer language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    one text;
    n integer := 0;
begin
    for one in select s.worker_group from hotpath.scale s where not exists (
            select from hotpath.scale_sample x where x.worker_group = s.worker_group and x.at > now() - interval '10 seconds')
        for no key update skip locked
    loop
        perform hotpath.scale_look(one);
        n := n + 1;
    end loop;
    return n;
end $$;

-- Groups that there are: with a scale, a configuration, or workers that live.
create function hotpath.scale_groups() returns setof text language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return query select s.worker_group from hotpath.scale s
        union select coalesce(w.worker_group, 'default') from hotpath.worker w
            where w.stopped_at is null and w.lease_until > now() and (w.patterns is not null or cardinality(w.tags) > 0);
    if to_regclass('hotpath.worker_group') is not null then
        return query execute 'select name from hotpath.worker_group g where not exists (select from hotpath.scale s where s.worker_group = g.name)
            and not exists (select from hotpath.worker w where w.stopped_at is null and w.lease_until > now() and coalesce(w.worker_group, ''default'') = g.name)';
    end if;
end $$;

revoke all on hotpath.scale, hotpath.scale_sample from public;
revoke all on function hotpath.scale_waiting, hotpath.scale_patterns, hotpath.scale_processes, hotpath.scale_tags, hotpath.scale_facts, hotpath.scale_need, hotpath.workers_wanted,
    hotpath.scale_look, hotpath.scale_look_at_all, hotpath.scale_groups from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.scale, hotpath.scale_sample to hotpath_worker;
        grant execute on function hotpath.scale_facts, hotpath.scale_need, hotpath.workers_wanted, hotpath.scale_look, hotpath.scale_look_at_all,
            hotpath.scale_groups to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.scale to hotpath_read;
        grant execute on function hotpath.scale_facts, hotpath.scale_need, hotpath.workers_wanted, hotpath.scale_groups to hotpath_read;
    end if;
end $$;
