-- Schedules: scripts that run at times of their own. When the next tick is, the program says (hotpath/core/schedules.py); that each becomes one
-- job, `hotpath.tick_schedules` does.

create table hotpath.schedule (
    id int4 primary key generated always as identity,
    name text not null unique check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'),
    script text not null,
    args jsonb not null default '{}',
    tag text,                            -- null: the script's own; likewise below
    priority int4 not null default 0,
    timeout_ms int4,
    kind text not null check (kind in ('cron', 'every', 'at')),
    expression text not null,
    timezone text not null default 'UTC',
    anchor timestamptz not null default now(),  -- what an interval is counted from
    catch_up text not null default 'last' check (catch_up in ('none', 'last', 'all')),
    catch_up_within float8 not null default 86400,  -- seconds
    overlap text not null default 'allow' check (overlap in ('allow', 'skip', 'queue_one')),
    enabled boolean not null default true,
    next_at timestamptz,                 -- null: it is paused, or over
    held_at timestamptz,                 -- a tick that waits for the job before to end
    last_at timestamptz,                 -- the last tick that became a job
    last_job uuid,                       -- the last job, of a tick or by hand
    ticks int8 not null default 0,       -- that became jobs
    missed int8 not null default 0,
    skipped int8 not null default 0,
    refused int8 not null default 0,
    last_error text,                     -- why the last tick was refused; null: it was not
    last_error_at timestamptz,
    revision int8 not null default 1,    -- of the row: who decides about ticks does so about this one
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index schedule_due on hotpath.schedule (next_at) where enabled and next_at is not null;
create index schedule_held on hotpath.schedule (held_at) where enabled and held_at is not null;

-- Which job a tick became. The key is the last guard against a second one.
create table hotpath.schedule_tick (
    schedule int4 not null,
    at timestamptz not null,
    job uuid,
    by_hand boolean not null default false,
    primary key (schedule, at)
);
create index schedule_tick_job on hotpath.schedule_tick (job);
create index schedule_tick_at on hotpath.schedule_tick (at);

-- Does what somebody has decided about the ticks of some schedules, as far as these are as he saw them (`revisions`) and nobody else is at them:
-- each tick becomes a job, and the schedules go on to `nexts`. Returns how many schedules that were. A tick that cannot become a job, for args
-- that its script no longer takes say, is the schedule's error and holds up no other.
create function hotpath.tick_schedules(ids int4[], revisions int8[], nexts timestamptz[], helds timestamptz[], missed int4[], skipped int4[],
    tick_ids int4[], tick_ats timestamptz[]) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    mine int4[];
    one record;
begin
    select array_agg(l.id) into mine from (
        select s.id from hotpath.schedule s join unnest(ids, revisions) as a (id, revision) on a.id = s.id
        where s.revision = a.revision and s.enabled for update of s skip locked) l;
    if mine is null then
        return 0;
    end if;
    begin
        perform hotpath.make_ticks(mine, tick_ids, tick_ats);
    exception when others then
        if not hotpath.is_refusal(sqlstate) then
            raise;
        end if;
        -- One by one: who is to blame is found, and the others have their jobs.
        for one in select t.id, t.at from unnest(tick_ids, tick_ats) as t (id, at) where t.id = any (mine) order by t.at, t.id loop
            begin
                perform hotpath.make_ticks(array[one.id], array[one.id], array[one.at]);
            exception when others then
                if not hotpath.is_refusal(sqlstate) then
                    raise;
                end if;
                update hotpath.schedule s set refused = s.refused + 1, last_error = left(sqlerrm, 2000), last_error_at = now() where s.id = one.id;
            end;
        end loop;
    end;
    update hotpath.schedule s set next_at = p.next_at, held_at = p.held_at, missed = s.missed + p.missed, skipped = s.skipped + p.skipped,
            revision = s.revision + 1
        from unnest(ids, nexts, helds, tick_schedules.missed, tick_schedules.skipped) as p (id, next_at, held_at, missed, skipped)
        where s.id = p.id and s.id = any (mine);
    return cardinality(mine);
end $$;

-- Makes jobs of these ticks, all or none, but for those that are jobs already.
create function hotpath.make_ticks(mine int4[], tick_ids int4[], tick_ats timestamptz[]) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    with due as materialized (
        select s.*, t.at from unnest(tick_ids, tick_ats) as t (id, at) join hotpath.schedule s on s.id = t.id
        where t.id = any (mine) and not exists (select from hotpath.schedule_tick k where k.schedule = t.id and k.at = t.at)
        order by t.at, t.id
    ),
    made as (
        insert into hotpath.schedule_tick (schedule, at, job)
        select d.id, d.at, hotpath.enqueue(script => d.script, args => d.args, tag => d.tag, priority => d.priority, scheduled_for => d.at,
            timeout_ms => d.timeout_ms) from due d
        returning schedule, at, job
    )
    update hotpath.schedule s set ticks = s.ticks + m.n, last_at = m.at, last_job = m.job, last_error = null, last_error_at = null
    from (select m.schedule, count(*) as n, max(m.at) as at, (array_agg(m.job order by m.at desc))[1] as job from made m group by m.schedule) m
    where s.id = m.schedule
$$;

-- Whether an error says that what was asked for cannot be: ours, or about data. All else passes, and undoes everything: the ticks are made later.
create function hotpath.is_refusal(state text) returns boolean language sql immutable parallel safe
begin atomic
    select left(state, 2) in ('HP', '22', '54');
end;

-- A tick now, by hand: whatever its times and policies say, and also of a schedule that is paused. Null: there is no such schedule.
create function hotpath.run_schedule(name text) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    s record;
    made uuid;
begin
    select * into s from hotpath.schedule where name = run_schedule.name for update;
    if not found then
        return null;
    end if;
    made := hotpath.enqueue(script => s.script, args => s.args, tag => s.tag, priority => s.priority, timeout_ms => s.timeout_ms);
    insert into hotpath.schedule_tick (schedule, at, job, by_hand) values (s.id, clock_timestamp(), made, true);
    update hotpath.schedule set last_job = made, revision = revision + 1 where id = s.id;
    return made;
end $$;

revoke all on hotpath.schedule, hotpath.schedule_tick from public;
revoke all on function hotpath.tick_schedules, hotpath.make_ticks, hotpath.is_refusal, hotpath.run_schedule from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.schedule, hotpath.schedule_tick to hotpath_worker;
        grant execute on function hotpath.tick_schedules, hotpath.make_ticks, hotpath.is_refusal, hotpath.run_schedule to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.schedule, hotpath.schedule_tick to hotpath_read;
    end if;
end $$;
