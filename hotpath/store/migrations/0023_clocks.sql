-- Clocks that are wrong: schedules that were moved on by one go on from now, and each worker and server says how its host's differs from the
-- database's. Servers say how they listen, too.

alter table hotpath.worker
    add column clock_apart float8,       -- the database's clock less its host's, seconds, as the last heartbeats saw it
    add column clock_unsure float8;      -- by how much that may be wrong

create table hotpath.server (            -- one row for each `hotpath serve` that is up, or was killed
    id int8 primary key,                 -- random, new at every start
    host text not null,
    pid int4 not null,
    program text not null,
    address text not null,               -- that it listens on
    is_loopback boolean not null,        -- only its own machine reaches it
    is_open boolean not null,            -- callers need no token
    is_secure boolean not null,          -- browsers reach it by TLS alone, its own or that of what stands before it
    started_at timestamptz not null default now(),
    said_at timestamptz not null default now(),
    clock_apart float8,                  -- as a worker's
    clock_unsure float8
);

-- The time by which it was decided when the next tick is. If that has not come yet, the clock has been set back since, or another server leads.
alter table hotpath.schedule add column moved_at timestamptz not null default now();

drop function hotpath.tick_schedules(int4[], int8[], timestamptz[], timestamptz[], int4[], int4[], int4[], timestamptz[]);

-- As in migration 0015; `decided` is the time by which it was decided what is due (null: now).
create function hotpath.tick_schedules(ids int4[], revisions int8[], nexts timestamptz[], helds timestamptz[], missed int4[], skipped int4[],
    tick_ids int4[], tick_ats timestamptz[], decided timestamptz default null) returns integer
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
            revision = s.revision + 1, moved_at = coalesce(decided, now())
        from unnest(ids, nexts, helds, tick_schedules.missed, tick_schedules.skipped) as p (id, next_at, held_at, missed, skipped)
        where s.id = p.id and s.id = any (mine);
    return cardinality(mine);
end $$;

-- Makes jobs of these ticks, all or none, but for those that are jobs already: such a one is the schedule's last all the same.
create or replace function hotpath.make_ticks(mine int4[], tick_ids int4[], tick_ats timestamptz[]) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    with due as materialized (
        select s.*, t.at, k.schedule is not null as is_made, k.job
        from unnest(tick_ids, tick_ats) as t (id, at) join hotpath.schedule s on s.id = t.id
        left join hotpath.schedule_tick k on k.schedule = t.id and k.at = t.at
        where t.id = any (mine)
        order by t.at, t.id
    ),
    made as (
        insert into hotpath.schedule_tick (schedule, at, job)
        select d.id, d.at, hotpath.enqueue(script => d.script, args => d.args, tag => d.tag, priority => d.priority, scheduled_for => d.at,
            timeout_ms => d.timeout_ms) from due d where not d.is_made
        returning schedule, at, job
    )
    update hotpath.schedule s set ticks = s.ticks + m.n, last_at = m.at, last_job = m.job, last_error = null, last_error_at = null
    from (
        select a.schedule, count(*) filter (where a.is_new) as n, max(a.at) as at, (array_agg(a.job order by a.at desc))[1] as job
        from (select m.schedule, m.at, m.job, true from made m union all select d.id, d.at, d.job, false from due d where d.is_made)
            as a (schedule, at, job, is_new)
        group by a.schedule) m
    where s.id = m.schedule
$$;

-- Has schedules that were moved on by a clock that was ahead come again at `nexts`, as far as they are as they were seen; returns how many that were.
-- What they made ahead stays made: `make_ticks` makes none twice. A job of a time to come that nobody has begun is not the one before.
create function hotpath.set_back_schedules(ids int4[], revisions int8[], nexts timestamptz[], decided timestamptz) returns integer
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    with mine as materialized (
        select s.id, a.next_at from hotpath.schedule s join unnest(ids, revisions, nexts) as a (id, revision, next_at) on a.id = s.id
        where s.revision = a.revision and s.enabled for update of s skip locked
    ),
    seen as materialized (
        select s.id, m.next_at, b.job,
            exists (select from hotpath.schedule_tick t where t.schedule = s.id and t.at = m.next_at) as is_made,
            exists (select from hotpath.job_get(s.last_job) j where j.state = 'queued' and j.attempt = 0 and j.scheduled_for > decided) as is_ahead
        from mine m join hotpath.schedule s on s.id = m.id
        left join lateral (select t.job from hotpath.schedule_tick t where t.schedule = s.id and t.at <= decided order by t.at desc limit 1) b on true
    ),
    done as (
        update hotpath.schedule s set next_at = case when not (s.kind = 'at' and n.is_made) then n.next_at end,
            held_at = case when s.held_at <= decided then s.held_at end, last_job = case when n.is_ahead then n.job else s.last_job end,
            moved_at = decided, revision = s.revision + 1
        from seen n where s.id = n.id returning s.id
    )
    select count(*)::integer from done
$$;

revoke all on hotpath.server from public;
revoke all on function hotpath.tick_schedules, hotpath.set_back_schedules from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant execute on function hotpath.tick_schedules, hotpath.set_back_schedules to hotpath_worker;
        grant select, insert, update, delete on hotpath.server to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.server to hotpath_read;
    end if;
end $$;
