-- Flows with a `concurrent_limit`: runs that may be under way at a time, whichever workers have them. Only such flows touch any of this.

-- Programs before this one do not wake a run when a job that it waits for has ended.
update hotpath.meta set oldest_program = 2;

create table hotpath.flow_slot (
    run uuid not null primary key,
    script integer not null,
    most integer not null,             -- the limit, as the worker that asked last knows it
    granted boolean not null default false,
    at timestamptz not null default clock_timestamp()
);
create index flow_slot_order on hotpath.flow_slot (script, granted, at, run);

-- Who takes or frees places of a flow has its limit's lock: before those of runs, in the order of locks (migration 0005).
create function hotpath.lock_limits(runs uuid[]) returns void language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    flow integer;
begin
    for flow in select distinct s.script from hotpath.flow_slot s where s.run = any (runs) order by s.script loop
        perform pg_advisory_xact_lock(7310869, flow);
    end loop;
end $$;

-- Grant free places of a flow to the runs that have waited longest, and wake them. An event says so to the run: it may just be on its
-- way into the queue. The caller has the limit's lock. Those of the runs are not taken, since they come before what the caller may hold:
-- a run that parks has locked its row here, which is changed before the queue is looked at.
create function hotpath.grant_slots(script integer) returns void language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    newly uuid[];
    woken record;
begin
    with room as (
        select (select s.most from hotpath.flow_slot s where s.script = grant_slots.script order by s.at desc limit 1)
            - (select count(*) from hotpath.flow_slot s where s.script = grant_slots.script and s.granted) as free
    ),
    taken as (
        update hotpath.flow_slot s set granted = true
        where s.run = any (array(select w.run from hotpath.flow_slot w where w.script = grant_slots.script and not w.granted
            order by w.at, w.run limit (select greatest(free, 0) from room)))
        returning s.run
    )
    select array_agg(taken.run order by taken.run) into newly from taken;
    if newly is null then
        return;
    end if;
    insert into hotpath.flow_event (run, key, nonce, approved, payload, approver)
        select u.run, 'slot:', '\x00', true, 'null', null from unnest(newly) as u (run) on conflict do nothing;
    for woken in
        with moved as (
            update hotpath.job_queue q set scheduled_for = now() where q.id = any (newly) and q.scheduled_for > now() returning q.tag
        )
        select distinct m.tag from moved m where exists (select from hotpath.doze d where d.tag = m.tag and d.until > now())
    loop
        perform pg_notify('hotpath', woken.tag || ' back');
    end loop;
end $$;

-- Ask for a place for each of these runs of a flow, of which `most` may be under way; returns those that have one. The others are woken
-- when it is their turn. A place is held until the run ends, however it does.
create function hotpath.admit_runs(script integer, most integer, runs uuid[]) returns uuid[]
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform pg_advisory_xact_lock(7310869, admit_runs.script);
    insert into hotpath.flow_slot (run, script, most)
        select u.run, admit_runs.script, admit_runs.most from unnest(admit_runs.runs) with ordinality as u (run, ord) order by u.ord
        on conflict (run) do update set most = excluded.most;
    insert into hotpath.waiter (job, client, until)
        select u.run, '00000000-0000-0000-0000-000000000000', 'infinity' from unnest(admit_runs.runs) as u (run) on conflict do nothing;
    perform hotpath.grant_slots(admit_runs.script);
    return array(select s.run from hotpath.flow_slot s where s.run = any (admit_runs.runs) and s.granted);
end $$;

-- These jobs have ended: what places they had are free.
create function hotpath.free_slots(jobs uuid[]) returns void language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    flow integer;
begin
    perform hotpath.lock_limits(free_slots.jobs);
    for flow in select distinct s.script from hotpath.flow_slot s where s.run = any (free_slots.jobs) order by s.script loop
        delete from hotpath.flow_slot s where s.run = any (free_slots.jobs) and s.script = flow;
        delete from hotpath.flow_event e where e.run = any (free_slots.jobs) and e.key = 'slot:';
        perform hotpath.grant_slots(flow);
    end loop;
end $$;

create or replace function hotpath.tell(jobs uuid[], clients uuid[]) returns integer language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    nobody constant uuid := '00000000-0000-0000-0000-000000000000';
    theirs uuid[];
begin
    perform pg_notify('hotpath_done', u.job::text) from unnest(jobs, clients) as u (job, client) where u.client <> nobody;
    if nobody = any (clients) then
        theirs := array(select u.job from unnest(jobs, clients) as u (job, client) where u.client = nobody);
        -- All locks, in everybody's order, before the first row of the queue is touched.
        perform hotpath.lock_limits(theirs);
        perform hotpath.lock_runs(array(select distinct c.run from hotpath.flow_child c where c.id = any (theirs)));
        perform hotpath.free_slots(theirs);
        perform hotpath.tell_runs(theirs);
    end if;
    return cardinality(jobs);
end $$;

revoke all on hotpath.flow_slot from public;
revoke all on function hotpath.grant_slots, hotpath.admit_runs, hotpath.free_slots, hotpath.lock_limits, hotpath.tell from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.flow_slot to hotpath_worker;
        grant execute on function hotpath.grant_slots, hotpath.admit_runs, hotpath.free_slots, hotpath.lock_limits, hotpath.tell to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.flow_slot to hotpath_read;
    end if;
end $$;
