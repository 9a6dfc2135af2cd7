-- What a version consists of, so that a worker whose workspace has another one, or none, can run it; which version was current, since when and by
-- whose hand; pins: rows of `script` that mean one version of another.

-- Contents by the SHA-256 of their bytes: what many versions share is there once.
create table hotpath.content (hash text primary key check (hash ~ '^[0-9a-f]{64}$'), body bytea not null);

-- Files of a version: its source and its settings file; of a flow its own file, the scripts written in it and the flows that it calls. What it imports from
-- the workspace is no part of it.
create table hotpath.version_file (
    version integer not null references hotpath.script_version on delete cascade,
    path text not null,                -- from the workspace
    main boolean not null,             -- the script's source, or the flow's own file: one of them is
    content text not null references hotpath.content,
    primary key (version, path)
);

-- Scripts that a flow runs.
create table hotpath.version_step (
    version integer not null references hotpath.script_version on delete cascade,
    script integer not null references hotpath.script,
    step integer references hotpath.script_version on delete cascade,  -- written in the flow, this version goes with it; null: a script of its own, whose current version runs
    primary key (version, script)
);

alter table hotpath.script_version add column made_by text;            -- user@host that registered it
alter table hotpath.script
    add column deployed_at timestamptz,                                -- when `deploy` chose its version: from then on nobody else does
    add column pin_of integer references hotpath.script;               -- this row means one version of that script, whatever is current
create index script_pins on hotpath.script (pin_of) where pin_of is not null;

-- Which version was current when: the last row of a script is the one that is. `back_to`: a roll back chose the version of that row again.
create table hotpath.version_choice (
    n integer generated always as identity primary key,
    script integer not null references hotpath.script,
    version integer not null references hotpath.script_version,
    at timestamptz not null default now(),
    made_by text,
    back_to integer
);
create index version_choice_script on hotpath.version_choice (script, n);
insert into hotpath.version_choice (script, version, at) select s.id, s.version, v.created_at
from hotpath.script s join hotpath.script_version v on v.id = s.version order by v.id;

-- A version that a worker's supervisor could not load, and why: its worker runs on with the one that it has. Without a version: why it stays with it in any case.
alter table hotpath.worker add column refused integer, add column refusal text;

-- The script that means one version of another, made if it is not there: `select hotpath.enqueue(hotpath.pin('f/x', '1a2b3c'), '{}')`. `hash`: how the
-- version's begins, four hex digits at least; null: the current one. Returns its name.
create function hotpath.pin(script text, hash text default null) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    base record;
    chosen record;
    near text;
    pinned text;
    made integer;
begin
    select s.id, s.name, s.tag, hotpath.tag_name(s.tag) as tag_name, s.version into base from hotpath.script s where s.name = pin.script and s.pin_of is null;
    if not found then
        raise exception using errcode = 'HP001', message = format('script %s is not registered in this database', coalesce(quote_literal(pin.script), 'NULL')),
            hint = format('run `hotpath deploy`, or start `hotpath dedicate %s`', coalesce(pin.script, 'NAME'));
    end if;
    if pin.hash !~ '^[0-9a-fA-F]{4,64}$' then
        raise exception using errcode = 'HP003', message = format('a version of %s is named by 4 to 64 hex digits, not %s', base.name, quote_literal(left(pin.hash, 80)));
    end if;
    select count(*) as n, min(v.id) as id, min(v.hash) as hash, min(v.settings ->> 'priority') as priority, min(v.settings ->> 'tag') as tag into chosen from hotpath.script_version v
        where v.script = base.id and case when pin.hash is null then v.id = base.version else v.hash like lower(pin.hash) || '%' end;
    if chosen.n <> 1 then
        select string_agg(left(c.hash, 12), ', ') into near from (select v.hash from hotpath.script_version v where v.script = base.id
            and (chosen.n = 0 or v.hash like lower(pin.hash) || '%') order by v.id desc limit 5) c;
        raise exception using errcode = 'HP001', message = format(case when chosen.n = 0 then 'no version of %s begins with %s' else 'more than one version of %s begins with %s' end
            || '; there are %s', base.name, coalesce(pin.hash, '(none)'), coalesce(near, 'none'));
    end if;
    if base.tag_name like '%$%' then  -- made of each job's args: what its own version says goes
        base.tag := hotpath.tag_id(coalesce(chosen.tag, base.name));
    end if;
    pinned := base.name || '@' || left(chosen.hash, 12);
    select s.id into made from hotpath.script s where s.name = pinned and s.version = chosen.id and s.tag = base.tag;
    if not found then
        insert into hotpath.script (name, version, tag, priority, pin_of) values (pinned, chosen.id, base.tag, coalesce(chosen.priority::int2, 0), base.id)
        on conflict (name) do update set version = excluded.version, tag = excluded.tag, priority = excluded.priority where script.pin_of = base.id;
    end if;
    return pinned;
end $$;

-- As in 0017; a worker that is dedicated to a script has its pins run, too. One that stays with its version in any case has not.
create or replace function hotpath.listeners(grace interval default interval '0') returns table (worker integer, tag int8, patterns text[], script integer)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    with w as (
        select id, tags, patterns, script, refused, refusal from hotpath.worker where stopped_at is null and (lease_until > now() or last_ping > now() - grace)
        union all
        select id, tags, patterns, script, refused, refusal from (select * from hotpath.worker order by id desc limit 500) w where stopped_at > now() - grace
    ),
    runs as (
        select w.id, w.tags, w.patterns, w.script from w
        union all
        select w.id, w.tags, w.patterns, p.id from w join hotpath.script p on p.pin_of = w.script where w.refusal is null or w.refused is not null
    )
    select r.id, t.tag, null::text[], r.script from runs r cross join lateral unnest(r.tags) as t (tag) where r.patterns is null
    union all
    select r.id, null, r.patterns, r.script from runs r where r.patterns is not null
$$;

revoke all on hotpath.content, hotpath.version_file, hotpath.version_step, hotpath.version_choice from public;
revoke all on function hotpath.pin from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.content, hotpath.version_file, hotpath.version_step, hotpath.version_choice to hotpath_worker;
        grant execute on function hotpath.pin to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_enqueue') then
        grant execute on function hotpath.pin to hotpath_enqueue;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.version_file, hotpath.version_step, hotpath.version_choice to hotpath_read;
    end if;
end $$;
