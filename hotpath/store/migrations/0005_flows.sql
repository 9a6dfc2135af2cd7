-- Flows: a run is a job of a script of kind `flow`; what its steps ended with, what it waits for, and who wakes it.
-- docs/data-model.md tells the reasons.

alter table hotpath.script_version add column kind text not null default 'script' check (kind in ('script', 'flow'));
-- Of a step: the run it belongs to, and which of its steps it is (its key). Null for ordinary jobs.
alter table hotpath.job_done add column parent uuid, add column step text;
create index job_done_parent on hotpath.job_done (parent) where parent is not null;

-- Every run that has a row in one of the tables below has one here; a run that never waited, nor was retried, has none.
create table hotpath.flow_run (
    id uuid not null primary key,
    generation int2 not null default 0,    -- how often it was retried; ids of steps depend on it
    since timestamptz,                     -- steps in job_done count from here on; null: all
    copied timestamptz,                    -- steps in job_done before this are in `checkpoint`; null: none
    early json                             -- a result that is there to see before the run has ended
);

-- Outcomes of steps of runs that wait, which may be for longer than job_done keeps its partitions, or that were retried from a step.
create table hotpath.checkpoint (
    run uuid not null,
    key text not null,
    id uuid not null,
    state int2 not null,
    done_at timestamptz not null,
    ended_at timestamptz not null,         -- by the worker's clock: orders what one transaction wrote
    outcome json,
    args json,
    primary key (run, key)
);

create table hotpath.mark (run uuid not null, key text not null, value json not null, at timestamptz not null default now(), primary key (run, key));

-- What people said to a run that waits for them. A nonce is a token's: it can be used once.
create table hotpath.flow_event (
    run uuid not null,
    key text not null,
    nonce bytea not null,
    approved boolean not null,
    payload json,
    approver text,
    at timestamptz not null default clock_timestamp(),
    primary key (run, key, nonce)
);

-- Steps that went through the queue: the job's id, and whose step it is.
create table hotpath.flow_child (id uuid not null primary key, run uuid not null, key text not null, done boolean not null default false);
create index flow_child_run on hotpath.flow_child (run);
create index flow_child_open on hotpath.flow_child (run) where not done;

create table hotpath.flow_cache (key bytea not null primary key, result json not null, until timestamptz not null);
create index flow_cache_until on hotpath.flow_cache (until);

-- What tokens are signed with: in a table of its own, which readers may not read.
create table hotpath.secret (only_row boolean primary key default true check (only_row), value bytea not null);
insert into hotpath.secret (value) select sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

alter table hotpath.flow_run set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
alter table hotpath.checkpoint set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
alter table hotpath.mark set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
alter table hotpath.flow_child set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

-- ---------------------------------------------------------------- small functions

-- In which iterations and branches a step was: what stands in brackets, the outermost first. Null for what is no step.
create function hotpath.iteration_of(step text) returns text language sql immutable parallel safe
begin atomic
    select case when step is null then null when strpos(step, '[') = 0 then '' else
        (select string_agg(m.found[1], '.' order by m.ord) from regexp_matches(step, '\[([^]]*)\]', 'g') with ordinality as m (found, ord)) end;
end;

-- The step that a mark is about: `m` of `suspend:m`, whose key may have a colon; `l` of `choice:l:iterator`, whose key has none.
create function hotpath.step_of_mark(key text) returns text language sql immutable strict parallel safe
begin atomic
    select case when starts_with(key, 'choice:') then split_part(key, ':', 2) else substring(key from position(':' in key) + 1) end;
end;

-- Whether a step's key is this one's, or of a step within it.
create function hotpath.is_within(key text, outer_key text) returns boolean language sql immutable strict parallel safe
begin atomic
    select key = outer_key or starts_with(key, outer_key || '/') or starts_with(key, outer_key || '[');
end;

-- Who parks a run and who wakes it take the same lock. There are 256 of them, so that no transaction can fill the server's table of
-- locks. Order of locks, everywhere: leases, batches, limits of flows, these by number, rows of flow_slot, rows of job_queue.
create function hotpath.slot_of(run uuid) returns integer language sql immutable strict parallel safe
begin atomic
    select get_byte(uuid_send(run), 15);
end;

create function hotpath.lock_runs(runs uuid[]) returns void language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    slot integer;
begin
    for slot in select distinct hotpath.slot_of(u.run) from unnest(runs) as u (run) order by 1 loop
        perform pg_advisory_xact_lock(73108687, slot);
    end loop;
end $$;

-- What ending this job, and what it sent that has not ended, will lock of runs: limits, the runs themselves, and the one that waits for it.
create function hotpath.lock_family(job uuid, family uuid[]) returns void language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform hotpath.lock_limits(family);    -- migration 0006
    perform hotpath.lock_runs(family || array(select c.run from hotpath.flow_child c where c.id = lock_family.job));
end $$;

-- ---------------------------------------------------------------- people's view of a job: kind, parent, step, iteration

create or replace view hotpath.job as
select q.id, s.name as script, hotpath.tag_name(q.tag) as tag, 'queued'::text as state, q.priority::integer as priority, q.scheduled_for,
    hotpath.uuid_time(q.id) as created_at, null::timestamptz as started_at, null::timestamptz as finished_at, null::double precision as duration_ms,
    null::text as worker, q.attempt::integer as attempt,
    coalesce(q.args, (select p.args from hotpath.payload p where p.id = q.id)) as args, null::json as result, null::json as error,
    case when c.run is not null then 'step' else coalesce(v.kind, 'script') end as kind, c.run as parent, c.key as step, hotpath.iteration_of(c.key) as iteration
from hotpath.job_queue q join hotpath.script s on s.id = q.script left join hotpath.script_version v on v.id = s.version
left join hotpath.flow_child c on c.id = q.id
union all
select u.id, s.name, hotpath.tag_name(b.tag), 'queued', u.priority, u.scheduled_for, hotpath.uuid_time(u.id), null, null, null, null, u.attempt,
    coalesce(u.args, (select p.args from hotpath.payload p where p.id = u.id)), null, null,
    coalesce(v.kind, 'script'), null, null, null
from hotpath.batch b join hotpath.script s on s.id = b.script left join hotpath.script_version v on v.id = s.version
cross join lateral (
    select coalesce(b.ids[k + 1], hotpath.job_id(b.base, k)) as id, coalesce(b.priorities[k + 1], b.priority)::integer as priority,
        coalesce(b.scheduled[k + 1], b.scheduled_for) as scheduled_for, coalesce(b.attempts[k + 1], 0)::integer as attempt, a.args
    from (select a.args, (a.ord - 1)::integer as k from unnest(b.args) with ordinality as a(args, ord)) a
    where k >= b.next and (b.skip is null or get_bit(b.skip, k) = 0)) u
where b.next < b.n
union all
select u.id, s.name, hotpath.tag_name(b.tag), 'running', u.priority, u.scheduled_for, hotpath.uuid_time(u.id), l.claimed_at, null, null, w.name, u.attempt + 1,
    coalesce(u.args, (select p.args from hotpath.payload p where p.id = u.id)), null, null,
    case when c.run is not null then 'step' else coalesce(v.kind, 'script') end, c.run, c.key, hotpath.iteration_of(c.key)
from hotpath.lease l join hotpath.batch b on b.base = l.batch join hotpath.script s on s.id = b.script
left join hotpath.script_version v on v.id = s.version left join hotpath.worker w on w.id = l.worker
cross join lateral (
    select coalesce(b.ids[k + 1], hotpath.job_id(b.base, k)) as id, coalesce(b.priorities[k + 1], b.priority)::integer as priority,
        coalesce(b.scheduled[k + 1], b.scheduled_for) as scheduled_for, coalesce(b.attempts[k + 1], 0)::integer as attempt, a.args
    from (select a.args, (a.ord - 1)::integer as k from unnest(b.args) with ordinality as a(args, ord)) a
    where k >= l.lo and k < l.hi and (b.skip is null or get_bit(b.skip, k) = 0) and (l.done is null or get_bit(l.done, k - l.lo) = 0)) u
left join hotpath.flow_child c on c.id = u.id
union all
select d.id, s.name, hotpath.tag_name(d.tag), case d.state when 1 then 'success' when 2 then 'failure' else 'canceled' end, d.priority::integer, d.scheduled_for,
    hotpath.uuid_time(d.id), d.started_at, coalesce(d.started_at + d.duration_us * interval '1 microsecond', d.done_at), d.duration_us / 1000.0::double precision,
    w.name, d.attempt::integer, coalesce(d.args, (select p.args from hotpath.payload p where p.id = d.id)), d.result, d.error,
    case when d.parent is not null then 'step' else coalesce(v.kind, 'script') end, d.parent, d.step, hotpath.iteration_of(d.step)
from hotpath.job_done d join hotpath.script s on s.id = d.script left join hotpath.script_version v on v.id = s.version left join hotpath.worker w on w.id = d.worker;

-- One job, wherever it is, by primary keys alone (the view scans).
create or replace function hotpath.job_get(id uuid) returns setof hotpath.job
language plpgsql stable parallel safe security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    wanted constant uuid := job_get.id;
    k constant integer := hotpath.ordinal_of(wanted);
begin
    -- The partition key prunes: a job cannot be done before its id was made (5 minutes for clocks that differ).
    return query select d.id, s.name, hotpath.tag_name(d.tag), case d.state when 1 then 'success' when 2 then 'failure' else 'canceled' end,
            d.priority::integer, d.scheduled_for, hotpath.uuid_time(d.id), d.started_at,
            coalesce(d.started_at + d.duration_us * interval '1 microsecond', d.done_at), d.duration_us / 1000.0::double precision,
            w.name, d.attempt::integer, coalesce(d.args, (select p.args from hotpath.payload p where p.id = d.id)), d.result, d.error,
            case when d.parent is not null then 'step' else coalesce(v.kind, 'script') end, d.parent, d.step, hotpath.iteration_of(d.step)
        from hotpath.job_done d join hotpath.script s on s.id = d.script left join hotpath.script_version v on v.id = s.version
        left join hotpath.worker w on w.id = d.worker
        where d.id = wanted and d.done_at >= hotpath.uuid_time(wanted) - interval '5 minutes';
    if found then return; end if;
    return query select q.id, s.name, hotpath.tag_name(q.tag), 'queued', q.priority::integer, q.scheduled_for, hotpath.uuid_time(q.id),
            null::timestamptz, null::timestamptz, null::double precision, null::text, q.attempt::integer,
            coalesce(q.args, (select p.args from hotpath.payload p where p.id = q.id)), null::json, null::json,
            case when c.run is not null then 'step' else coalesce(v.kind, 'script') end, c.run, c.key, hotpath.iteration_of(c.key)
        from hotpath.job_queue q join hotpath.script s on s.id = q.script left join hotpath.script_version v on v.id = s.version
        left join hotpath.flow_child c on c.id = q.id where q.id = wanted;
    if found then return; end if;
    -- In a batch: sealed (the id says which and where), or gathered by a claim (only while it is leased).
    return query select wanted, s.name, hotpath.tag_name(b.tag), case when l.id is null then 'queued' else 'running' end,
            coalesce(b.priorities[k1 + 1], b.priority)::integer, coalesce(b.scheduled[k1 + 1], b.scheduled_for), hotpath.uuid_time(wanted),
            l.claimed_at, null::timestamptz, null::double precision, w.name,
            (coalesce(b.attempts[k1 + 1], 0) + (l.id is not null)::integer)::integer,
            coalesce(b.args[k1 + 1], (select p.args from hotpath.payload p where p.id = wanted)), null::json, null::json,
            case when c.run is not null then 'step' else coalesce(v.kind, 'script') end, c.run, c.key, hotpath.iteration_of(c.key)
        from (select b.*, k as k1 from hotpath.batch b where b.base = hotpath.batch_of(wanted) and b.ids is null and k < b.n
              union all
              select b.*, array_position(b.ids, wanted) - 1 from hotpath.batch b where b.ids is not null and wanted = any (b.ids)) b
        join hotpath.script s on s.id = b.script left join hotpath.script_version v on v.id = s.version
        left join hotpath.flow_child c on c.id = wanted
        left join hotpath.lease l on l.batch = b.base and k1 >= l.lo and k1 < l.hi and (l.done is null or get_bit(l.done, k1 - l.lo) = 0)
        left join hotpath.worker w on w.id = l.worker
        where (l.id is not null or k1 >= b.next) and (b.skip is null or get_bit(b.skip, k1) = 0);
end $$;

-- ---------------------------------------------------------------- the end of a job: who waits for it hears of it

-- These jobs of flows have ended, in this transaction: keep what they ended with, and let the runs that wait for them go on.
create function hotpath.tell_runs(children uuid[]) returns void language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    woken record;
    parents uuid[] := array(select distinct c.run from hotpath.flow_child c where c.id = any (children));
begin
    perform hotpath.lock_runs(parents);
    with c as (
        update hotpath.flow_child c set done = true where c.id = any (children) and not c.done returning c.id, c.run, c.key
    ),
    -- `done_at` is the transaction's time.
    d as (
        update hotpath.job_done d set parent = c.run, step = c.key from c where d.id = c.id and d.done_at = now() returning d.*
    )
    insert into hotpath.checkpoint (run, key, id, state, done_at, ended_at, outcome, args)
        select d.parent, d.step, d.id, d.state, d.done_at, coalesce(d.started_at + d.duration_us * interval '1 microsecond', d.done_at),
            coalesce(d.result, d.error), coalesce(d.args, (select p.args from hotpath.payload p where p.id = d.id))
        from d
        on conflict (run, key) do update set id = excluded.id, state = excluded.state, done_at = excluded.done_at, ended_at = excluded.ended_at,
            outcome = excluded.outcome, args = excluded.args;
    delete from hotpath.waiter w where w.job = any (children) and w.client = '00000000-0000-0000-0000-000000000000';
    -- A run with many children does not go through the queue for each of them.
    for woken in
        with moved as (
            update hotpath.job_queue q set scheduled_for = r.due
            from (select u.run, now() + case when (select count(*) from (select from hotpath.flow_child o where o.run = u.run and not o.done limit 21) few) > 20
                      then interval '100 milliseconds' else interval '0' end as due
                  from unnest(parents) as u (run)) r
            where q.id = r.run and q.scheduled_for > r.due
            returning q.tag
        )
        select distinct m.tag from moved m where exists (select from hotpath.doze d where d.tag = m.tag and d.until > now())
    loop
        perform pg_notify('hotpath', woken.tag || ' back');
    end loop;
end $$;

-- These jobs have ended, in this transaction, and somebody waits for each: a client, who is notified, or (nobody's id) a run.
create function hotpath.tell(jobs uuid[], clients uuid[]) returns integer language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    nobody constant uuid := '00000000-0000-0000-0000-000000000000';
begin
    perform pg_notify('hotpath_done', u.job::text) from unnest(jobs, clients) as u (job, client) where u.client <> nobody;
    if nobody = any (clients) then
        perform hotpath.tell_runs(array(select u.job from unnest(jobs, clients) as u (job, client) where u.client = nobody));
    end if;
    return cardinality(jobs);
end $$;

-- ---------------------------------------------------------------- notes

-- Write what was noted of runs in hand: steps that ended, marks, jobs to dispatch, early results, results to cache. Says of each run whether
-- its notes were taken: only while its lease is there, is this worker's, and does not have the run as done (I2).
--   worker; clock: what to add to its clock to have microseconds since the epoch by the database's; durable: false if a commit that is
--   waited for follows on the same connection; again: the same may have been written before (a reply was lost);
--   leases, places (from 0 at the lease's first job), runs: one entry a run; `..._of` count from 1 into them.
--   states: 1 success, 2 failure, 3 canceled, 4 failed and runs again; scripts: 0 for the run's own; args, outcomes, mark_values (a JSON null
--   takes the mark away), child_args, early_values, cache_values: JSON arrays as UTF-8, null for none; logs: null for none.
create function hotpath.note_steps(worker integer, clock int8, durable boolean, again boolean, leases int8[], places integer[], runs uuid[],
    step_of integer[], keys text[], ids uuid[], scripts integer[], started int8[], durations int8[], states int2[], attempts int2[],
    args bytea, outcomes bytea, logs text[],
    mark_of integer[], mark_keys text[], mark_values bytea,
    child_of integer[], child_keys text[], child_ids uuid[], child_scripts text[], child_tags text[], child_priorities integer[],
    child_timeouts integer[], child_args bytea,
    early_of integer[], early_values bytea,
    cache_keys bytea[], cache_ttls float8[], cache_values bytea) returns boolean[]
language plpgsql volatile set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off
    set jit = off as $$
#variable_conflict use_column
declare
    accepted boolean[];
    tags int8[];
    priorities int2[];
    owns integer[];
    doomed boolean[];
    woken record;
    notified int8;
begin
    if not note_steps.durable then
        perform set_config('synchronous_commit', 'off', true);
    end if;
    with l as materialized (
        select x.id, x.batch, x.lo, x.hi, x.done, x.cancels from hotpath.lease x
        where x.id = any (note_steps.leases) and x.worker = note_steps.worker order by x.id for update
    ),
    r as (
        select u.ord, b.tag is not null as there, b.tag, coalesce(b.priorities[l.lo + u.place + 1], b.priority) as priority, b.script,
            l.cancels is not null and get_bit(l.cancels, u.place) = 1 as canceled
        from unnest(note_steps.leases, note_steps.places) with ordinality as u (lease, place, ord)
        left join l on l.id = u.lease and u.place >= 0 and u.place < l.hi - l.lo and (l.done is null or get_bit(l.done, u.place) = 0)
        left join hotpath.batch b on b.base = l.batch
    )
    select array_agg(r.there order by r.ord), array_agg(coalesce(r.tag, 0) order by r.ord), array_agg(coalesce(r.priority, 0::int2) order by r.ord),
        array_agg(coalesce(r.script, 0) order by r.ord), array_agg(r.canceled order by r.ord)
    into accepted, tags, priorities, owns, doomed from r;

    if cardinality(note_steps.keys) > 0 then
        insert into hotpath.job_done (id, started_at, duration_us, scheduled_for, tag, script, worker, priority, attempt, state, args, result, error, parent, step)
        select u.id, t.at, u.duration, t.at, tags[u.run], case u.script when 0 then owns[u.run] else u.script end, note_steps.worker, priorities[u.run],
            u.attempt, u.state, case when json_typeof(u.args) <> 'null' then u.args end,
            case when u.state = 1 then u.outcome end, case when u.state <> 1 then u.outcome end, note_steps.runs[u.run], u.key
        from rows from (unnest(note_steps.step_of), unnest(note_steps.keys), unnest(note_steps.ids), unnest(note_steps.scripts), unnest(note_steps.started),
            unnest(note_steps.durations), unnest(note_steps.states), unnest(note_steps.attempts),
            json_array_elements(convert_from(note_steps.args, 'UTF8')::json), json_array_elements(convert_from(note_steps.outcomes, 'UTF8')::json))
            with ordinality as u (run, key, id, script, started, duration, state, attempt, args, outcome, ord)
        cross join lateral (select timestamptz 'epoch' + (u.started + note_steps.clock) * interval '1 microsecond' as at) t
        -- As many args and outcomes as steps, or an error (a division by zero).
        where case when u.outcome is null or u.args is null or u.run is null then 1 / (u.ord - u.ord) = 1
            else u.state <> 4 and accepted[u.run] end
            and (not note_steps.again or not exists (
                select from hotpath.job_done d where d.id = u.id and d.done_at >= hotpath.uuid_time(u.id) - interval '5 minutes'));
        if 4 = any (note_steps.states) then
            insert into hotpath.job_attempt (id, started_at, duration_us, worker, attempt, state, error)
            select u.id, timestamptz 'epoch' + (u.started + note_steps.clock) * interval '1 microsecond', u.duration, note_steps.worker, u.attempt, 2, u.outcome
            from rows from (unnest(note_steps.step_of), unnest(note_steps.ids), unnest(note_steps.started), unnest(note_steps.durations),
                unnest(note_steps.states), unnest(note_steps.attempts), json_array_elements(convert_from(note_steps.outcomes, 'UTF8')::json))
                as u (run, id, started, duration, state, attempt, outcome)
            where u.state = 4 and accepted[u.run]
                and (not note_steps.again or not exists (
                    select from hotpath.job_attempt a where a.id = u.id and a.attempt = u.attempt and a.done_at >= hotpath.uuid_time(u.id) - interval '5 minutes'));
        end if;
        if note_steps.logs is not null then
            insert into hotpath.job_log (id, attempt, text)
            select u.id, u.attempt, u.log
            from unnest(note_steps.step_of, note_steps.ids, note_steps.attempts, note_steps.logs) as u (run, id, attempt, log)
            where u.log is not null and accepted[u.run]
                and (not note_steps.again or not exists (
                    select from hotpath.job_log g where g.id = u.id and g.attempt = u.attempt and g.seq = 0 and g.done_at >= hotpath.uuid_time(u.id) - interval '5 minutes'));
        end if;
    end if;

    if cardinality(note_steps.mark_of) > 0 or cardinality(note_steps.child_of) > 0 or cardinality(note_steps.early_of) > 0 then
        insert into hotpath.flow_run (id)
        select distinct note_steps.runs[u.run] from unnest(note_steps.mark_of || note_steps.child_of || note_steps.early_of) as u (run)
        where accepted[u.run] order by 1
        on conflict (id) do nothing;
    end if;

    if cardinality(note_steps.mark_of) > 0 then
        insert into hotpath.mark (run, key, value)
        select distinct on (note_steps.runs[u.run], u.key) note_steps.runs[u.run], u.key, u.value
        from rows from (unnest(note_steps.mark_of), unnest(note_steps.mark_keys), json_array_elements(convert_from(note_steps.mark_values, 'UTF8')::json))
            with ordinality as u (run, key, value, ord)
        where accepted[u.run] order by note_steps.runs[u.run], u.key, u.ord desc
        on conflict (run, key) do update set value = excluded.value, at = excluded.at;
        delete from hotpath.mark m
        using unnest(note_steps.mark_of, note_steps.mark_keys) as u (run, key)
        where m.run = note_steps.runs[u.run] and m.key = u.key and accepted[u.run] and json_typeof(m.value) = 'null';
    end if;

    if cardinality(note_steps.child_of) > 0 then
        for woken in
            with c as materialized (
                select u.*, note_steps.runs[u.run] as parent, s.id as script_id, u.args::text as body, doomed[u.run] as doomed,
                    case when u.tag is null then coalesce(s.tag, tags[u.run]) else hotpath.tag_id(u.tag) end as tag_key,
                    case when u.priority = 0 then coalesce(s.priority, 0) else u.priority end::int2 as rank
                from rows from (unnest(note_steps.child_of), unnest(note_steps.child_keys), unnest(note_steps.child_ids), unnest(note_steps.child_scripts),
                    unnest(note_steps.child_tags), unnest(note_steps.child_priorities), unnest(note_steps.child_timeouts),
                    json_array_elements(convert_from(note_steps.child_args, 'UTF8')::json))
                    as u (run, key, id, script, tag, priority, timeout_ms, args)
                left join hotpath.script s on s.name = u.script and s.version is not null
                where accepted[u.run]
            ),
            -- One that cannot run ends at once: nobody would ever tell of it.
            fresh as (
                insert into hotpath.flow_child (id, run, key, done)
                select distinct on (c.id) c.id, c.parent, c.key, c.script_id is null or c.doomed from c order by c.id
                on conflict (id) do nothing returning id, done
            ),
            n as materialized (
                select c.*, f.done as over from c join fresh f on f.id = c.id
            ),
            kept as (
                insert into hotpath.payload (id, args) select n.id, n.args from n where octet_length(n.body) > 8192 and not n.over on conflict do nothing
            ),
            queued as (
                insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, timeout_ms, args)
                select n.id, now(), n.tag_key, n.script_id, n.rank, n.timeout_ms, case when octet_length(n.body) <= 8192 then n.args end
                from n where not n.over returning tag
            ),
            awaited as (
                insert into hotpath.waiter (job, client, until)
                select n.id, '00000000-0000-0000-0000-000000000000', 'infinity' from n where not n.over on conflict do nothing
            ),
            named as (
                insert into hotpath.tag_seen (id, name)
                select distinct n.tag_key, n.tag from n where n.tag is not null and not exists (select from hotpath.tag t where t.id = n.tag_key)
                    and not exists (select from hotpath.tag_seen t where t.id = n.tag_key)
            ),
            ended as (
                insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state, args, error, parent, step)
                select n.id, now(), n.tag_key, coalesce(n.script_id, owns[n.run]), n.rank, 0, case when n.doomed then 3 else 2 end, n.args,
                    case when n.doomed then hotpath.error_object('JobCanceled', 'canceled before it started', 'canceled')
                        else hotpath.error_object('UnknownScriptError', format('no script %s is registered in this database; run `hotpath deploy`',
                            quote_literal(n.script)), 'exception') end, n.parent, n.key
                from n where n.over returning *
            ),
            known as (
                insert into hotpath.checkpoint (run, key, id, state, done_at, ended_at, outcome, args)
                select e.parent, e.step, e.id, e.state, e.done_at, e.done_at, e.error, e.args from ended e on conflict do nothing
            )
            select distinct q.tag from queued q where exists (select from hotpath.doze d where d.tag = q.tag and d.until > now())
        loop
            perform pg_notify('hotpath', woken.tag::text);
        end loop;
    end if;

    if cardinality(note_steps.early_of) > 0 then
        with told as (
            update hotpath.flow_run f set early = u.value
            from rows from (unnest(note_steps.early_of), json_array_elements(convert_from(note_steps.early_values, 'UTF8')::json)) as u (run, value)
            where f.id = note_steps.runs[u.run] and accepted[u.run] and f.early is null
            returning f.id
        )
        select count(pg_notify('hotpath_done', w.job::text)) into notified from told join hotpath.waiter w on w.job = told.id
            where w.client <> '00000000-0000-0000-0000-000000000000';
    end if;

    if cardinality(note_steps.cache_keys) > 0 then
        insert into hotpath.flow_cache (key, result, until)
        select distinct on (u.key) u.key, u.value, clock_timestamp() + u.ttl * interval '1 second'
        from rows from (unnest(note_steps.cache_keys), unnest(note_steps.cache_ttls), json_array_elements(convert_from(note_steps.cache_values, 'UTF8')::json))
            with ordinality as u (key, ttl, value, ord)
        order by u.key, u.ord desc
        on conflict (key) do update set result = excluded.result, until = excluded.until;
    end if;
    return accepted;
end $$;

-- ---------------------------------------------------------------- parking

-- Runs leave their leases without an outcome and wait in the queue: until a time, or until one of what they wait for has come, which may
-- have been while they still ran. What somebody asked to cancel ends instead. No attempt is charged. Returns how many have left.
--   wakes: microseconds since the epoch by the database's clock, null: until somebody wakes it; awaited: {"children": [id...],
--   "events": {key: how many it has seen}}.
create function hotpath.park_runs(worker integer, leases int8[], places integer[], runs uuid[], wakes int8[], awaited jsonb[]) returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off
    set jit = off as $$
#variable_conflict use_column
declare
    parked uuid[];
    canceled uuid[];
    woken record;
begin
    perform from hotpath.lease l where l.id = any (park_runs.leases) and l.worker = park_runs.worker order by l.id for update;
    perform from hotpath.batch b where b.base = any (array(select l.batch from hotpath.lease l where l.id = any (park_runs.leases) and l.worker = park_runs.worker))
        order by b.base for update;
    -- Who is canceled ends here: its place goes to others, and the run that waits for it hears of it.
    if exists (select from hotpath.lease l where l.id = any (park_runs.leases) and l.worker = park_runs.worker and l.cancels is not null) then
        perform hotpath.lock_limits(park_runs.runs);
        perform hotpath.lock_runs(park_runs.runs || array(select c.run from hotpath.flow_child c where c.id = any (park_runs.runs)));
    else
        perform hotpath.lock_runs(park_runs.runs);
    end if;
    -- Whoever grants a place changes this row first and then looks for the run in the queue.
    perform from hotpath.flow_slot s where s.run = any (park_runs.runs) order by s.run for share;
    for woken in
        with u as materialized (
            select distinct on (u.lease, u.place) u.*
            from unnest(park_runs.leases, park_runs.places, park_runs.wakes, park_runs.awaited) as u (lease, place, wake, awaited)
            order by u.lease, u.place
        ),
        l as materialized (
            select l.* from hotpath.lease l where l.id = any (park_runs.leases) and l.worker = park_runs.worker
        ),
        b as materialized (
            select b.* from hotpath.batch b where b.base = any (array(select batch from l))
        ),
        held as materialized (
            select l.id as lease, (o.ord - 1)::integer as place, coalesce(o.id, hotpath.job_id(b.base, (l.lo + o.ord - 1)::integer)) as id,
                coalesce(o.scheduled, b.scheduled_for) as scheduled_for, b.tag, b.script, coalesce(o.priority, b.priority) as priority,
                coalesce(o.attempt, 0::int2) as attempt, o.crashes, o.suspect, o.timeout_ms, o.args,
                l.cancels is not null and get_bit(l.cancels, (o.ord - 1)::integer) = 1 as canceled
            from l join b on b.base = l.batch
            cross join lateral rows from (unnest(b.args[l.lo + 1:l.hi]), unnest(b.ids[l.lo + 1:l.hi]), unnest(b.scheduled[l.lo + 1:l.hi]),
                unnest(b.priorities[l.lo + 1:l.hi]), unnest(b.attempts[l.lo + 1:l.hi]), unnest(b.crashes[l.lo + 1:l.hi]), unnest(b.suspects[l.lo + 1:l.hi]),
                unnest(b.timeouts[l.lo + 1:l.hi]))
                with ordinality as o (args, id, scheduled, priority, attempt, crashes, suspect, timeout_ms, ord)
            where (b.skip is null or get_bit(b.skip, (l.lo + o.ord - 1)::integer) = 0) and (l.done is null or get_bit(l.done, (o.ord - 1)::integer) = 0)
        ),
        j as materialized (
            select h.*, coalesce(timestamptz 'epoch' + u.wake * interval '1 microsecond', now() + interval '100 years') as wake,
                exists (select from jsonb_array_elements_text(u.awaited -> 'children') as a (id) join hotpath.flow_child c on c.id = a.id::uuid where c.done)
                or exists (select from jsonb_each_text(u.awaited -> 'events') as a (key, seen)
                    where (select count(*) from hotpath.flow_event e where e.run = h.id and e.key = a.key) > a.seen::int8) as ready
            from held h join u on u.lease = h.lease and u.place = h.place
        ),
        back as (
            insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, attempt, crashes, suspect, timeout_ms, args)
            select j.id, case when j.ready then least(j.wake, now()) else j.wake end, j.tag, j.script, j.priority, j.attempt, j.crashes, j.suspect,
                j.timeout_ms, j.args
            from j where not j.canceled
            returning tag, scheduled_for
        ),
        ended as (
            insert into hotpath.job_done (id, scheduled_for, tag, script, worker, priority, attempt, state, args, error, timeout_ms)
            select j.id, j.scheduled_for, j.tag, j.script, park_runs.worker, j.priority, j.attempt, 3, j.args,
                hotpath.error_object('JobCanceled', 'canceled while it waited', 'canceled'), j.timeout_ms
            from j where j.canceled
        ),
        bits as materialized (
            select l.id, l.batch, l.lo, l.hi - l.lo as size, hotpath.set_bits(l.done, l.hi - l.lo, p.places) as done
            from l join (select j.lease, array_agg(j.place) as places from j group by j.lease) p on p.lease = l.id
        ),
        whole as materialized (
            select t.id, t.batch, t.size from bits t join b on b.base = t.batch
            where not exists (select from generate_series(0, t.size - 1) p where get_bit(t.done, p) = 0 and (b.skip is null or get_bit(b.skip, t.lo + p) = 0))
        ),
        gone as (delete from hotpath.lease l using whole w where l.id = w.id),
        part as (update hotpath.lease l set done = t.done from bits t where l.id = t.id and not exists (select from whole w where w.id = t.id)),
        closed as materialized (select w.batch, sum(w.size)::int2 as k from whole w group by w.batch),
        emptied as (delete from hotpath.batch t using b join closed c on c.batch = b.base where t.base = b.base and b.open = c.k),
        opened as (update hotpath.batch t set open = t.open - c.k from b join closed c on c.batch = b.base where t.base = b.base and b.open > c.k)
        select array(select j.id from j where not j.canceled) as parked, array(select j.id from j where j.canceled) as canceled,
            array(select distinct back.tag from back where back.scheduled_for <= now()) as tags
    loop
        parked := woken.parked;
        canceled := woken.canceled;
        perform pg_notify('hotpath', t.tag || ' back') from unnest(woken.tags) as t (tag)
            where exists (select from hotpath.doze d where d.tag = t.tag and d.until > now());
    end loop;

    if parked <> '{}' then
        -- What job_done says of their steps is kept here, since it may drop its partitions before the run goes on.
        insert into hotpath.checkpoint (run, key, id, state, done_at, ended_at, outcome, args)
        select distinct on (d.parent, d.step) d.parent, d.step, d.id, d.state, d.done_at,
            coalesce(d.started_at + d.duration_us * interval '1 microsecond', d.done_at), coalesce(d.result, d.error), d.args
        from unnest(parked) as u (run) left join hotpath.flow_run f on f.id = u.run
        join hotpath.job_done d on d.parent = u.run
            and d.done_at >= greatest(hotpath.uuid_time(u.run) - interval '5 minutes', f.since, f.copied - interval '5 minutes')
        where d.done_at < now() + interval '1 hour'
        order by d.parent, d.step, d.done_at desc
        on conflict (run, key) do update set id = excluded.id, state = excluded.state, done_at = excluded.done_at, ended_at = excluded.ended_at,
            outcome = excluded.outcome, args = excluded.args
            where checkpoint.done_at < excluded.done_at;
        insert into hotpath.flow_run (id, copied) select u.run, now() from unnest(parked) as u (run) order by 1
        on conflict (id) do update set copied = excluded.copied;
    end if;
    if canceled <> '{}' then
        perform hotpath.tell(array_agg(w.job), array_agg(w.client)) from hotpath.waiter w where w.job = any (canceled) having count(*) > 0;
    end if;
    return cardinality(parked) + cardinality(canceled);
end $$;

-- ---------------------------------------------------------------- cancel

-- Asks whoever runs a job to end it; the worker's id, or null: nobody runs it. The request stands in the lease's row, so that a flush or
-- give-back which we wait for is seen, and sees us.
create function hotpath.ask_cancel(job uuid) returns integer language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    k constant integer := hotpath.ordinal_of(ask_cancel.job);
    holder integer;
begin
    update hotpath.lease l set cancels = hotpath.set_bits(l.cancels, l.hi - l.lo, array[p.place - l.lo])
        from (select b.base, k as place from hotpath.batch b where b.base = hotpath.batch_of(ask_cancel.job) and b.ids is null and k < b.next
                  and (b.skip is null or get_bit(b.skip, k) = 0)
              union all
              select b.base, array_position(b.ids, ask_cancel.job) - 1 from hotpath.batch b where b.ids is not null and ask_cancel.job = any (b.ids)) p
        where l.batch = p.base and p.place >= l.lo and p.place < l.hi and (l.done is null or get_bit(l.done, p.place - l.lo) = 0)
        returning l.worker into holder;
    if found then
        perform pg_notify('hotpath_cancel', holder::text);
    end if;
    return holder;
end $$;

-- Cancels this one job, as `cancel` did before there were flows.
create function hotpath.cancel_one(job uuid) returns boolean language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    k constant integer := hotpath.ordinal_of(cancel_one.job);
    sealed_in constant uuid := hotpath.batch_of(cancel_one.job);
    why constant json := hotpath.error_object('JobCanceled', 'canceled before it started', 'canceled');
    it record;
begin
    -- A job moves between its places (claimed, given back) while we look into one after the other: then look again.
    for look in 1 .. 20 loop
        with gone as (delete from hotpath.job_queue q where q.id = cancel_one.job returning q.*),
        done as (insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state, args, error, timeout_ms)
            select g.id, g.scheduled_for, g.tag, g.script, g.priority, g.attempt, 3, g.args, why, g.timeout_ms from gone g returning 1)
        select 1 as one into it from done;
        if found then
            perform hotpath.tell(array_agg(w.job), array_agg(w.client)) from hotpath.waiter w where w.job = cancel_one.job having count(*) > 0;
            return true;
        end if;
        if hotpath.ask_cancel(cancel_one.job) is not null then
            return true;
        end if;
        -- It waits in a sealed batch: `next` and `skip` are read and changed by the one statement that locks the row.
        begin
            update hotpath.batch b set skip = hotpath.set_bits(b.skip, b.n, array[k])
                where b.base = sealed_in and b.ids is null and k < b.n and k >= b.next and (b.skip is null or get_bit(b.skip, k) = 0)
                returning b.scheduled_for, b.tag, b.script, b.priority, b.args[k + 1] as args, b.timeouts[k + 1] as timeout_ms into it;
            if found then
                insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state, args, error, timeout_ms)
                    values (cancel_one.job, it.scheduled_for, it.tag, it.script, it.priority, 0, 3, it.args, why, it.timeout_ms);
                perform hotpath.tell(array_agg(w.job), array_agg(w.client)) from hotpath.waiter w where w.job = cancel_one.job having count(*) > 0;
                return true;
            end if;
            -- Undoes the block, and so lets the row go: a flush locks the lease first and then the batch, and so do we.
            raise exception using errcode = 'HP999', message = 'not there';
        exception when sqlstate 'HP999' then null;
        end;
        exit when not exists (select from hotpath.job_get(cancel_one.job) j where j.state in ('queued', 'running'));
    end loop;
    return false;
end $$;

-- Cancels a job that waits; asks whoever runs it to end it if it runs. Of a flow's run, the jobs below it too. False when it is unknown
-- or has ended.
create or replace function hotpath.cancel(job uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    family uuid[];
    child uuid;
begin
    if exists (select from hotpath.flow_child c where c.run = cancel.job and not c.done)
        or exists (select from hotpath.waiter w where w.job = cancel.job and w.client = '00000000-0000-0000-0000-000000000000') then
        -- The locks that ending them takes, in everybody's order: leases first, then those of the runs.
        family := array(
            with recursive t (id) as (
                select cancel.job union select c.id from t join hotpath.flow_child c on c.run = t.id and not c.done)
            select t.id from t order by t.id);
        perform hotpath.ask_cancel(u.id) from unnest(family) as u (id);
        perform hotpath.lock_family(cancel.job, family);
    end if;
    if not hotpath.cancel_one(cancel.job) then
        return false;
    end if;
    -- Looked for once more: a note that we waited for may have sent one. A later one finds the request.
    for child in select c.id from hotpath.flow_child c where c.run = cancel.job and not c.done order by c.id loop
        perform hotpath.cancel(child);
    end loop;
    return true;
end $$;

-- ---------------------------------------------------------------- retry

-- Cancels what a run that has ended has left in the queue or with workers.
create function hotpath.cancel_below(run uuid) returns void language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    child uuid;
    family constant uuid[] := array(
        with recursive t (id) as (
            select cancel_below.run union select c.id from t join hotpath.flow_child c on c.run = t.id and not c.done)
        select t.id from t order by t.id);
begin
    if cardinality(family) > 1 then
        perform hotpath.ask_cancel(u.id) from unnest(family) as u (id);
        perform hotpath.lock_family(cancel_below.run, family);
        for child in select c.id from hotpath.flow_child c where c.run = cancel_below.run and not c.done order by c.id loop
            perform hotpath.cancel(child);
        end loop;
    end if;
end $$;

-- What a run keeps of these steps to look at goes: args, result and log, of all their tries; errors stay.
create function hotpath.blank_steps(run uuid, keys text[]) returns void language sql volatile set search_path = pg_catalog, pg_temp as $$
    with b as (
        update hotpath.job_done d set args = null, result = null
        where d.parent = blank_steps.run and d.done_at >= hotpath.uuid_time(blank_steps.run) - interval '5 minutes' and d.step = any (blank_steps.keys)
        returning d.id
    ),
    p as (delete from hotpath.payload p using b where p.id = b.id)
    delete from hotpath.job_log g using b where g.id = b.id and g.done_at >= hotpath.uuid_time(blank_steps.run) - interval '5 minutes'
$$;

-- Runs a job that has ended once more, under the same id: what it ended with becomes an earlier attempt. A flow's run begins anew or, with
-- a step's key, from that step: what ended before that step did counts as it is. False when it has not ended.
create function hotpath.run_again(job uuid, key text) returns boolean language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    tag_key int8;
    was record;
    is_flow boolean;
    began timestamptz;
    kept text[] := '{}';
    blank text[];
begin
    select d.script, d.parent, d.step into was from hotpath.job_done d
        where d.id = run_again.job and d.done_at >= hotpath.uuid_time(run_again.job) - interval '5 minutes';
    if not found then
        return false;
    end if;
    if was.parent is not null then
        raise exception using errcode = 'HP003', message = format('job %s is step %s of run %s and cannot be retried alone', run_again.job, was.step, was.parent),
            hint = format('retry the run, as a whole or from that step: select hotpath.retry_from(%L, %L)', was.parent, was.step);
    end if;
    is_flow := exists (select from hotpath.script_version v where v.script = was.script and v.kind = 'flow');
    if run_again.key is not null and not is_flow then
        raise exception using errcode = 'HP003', message = format('job %s is not a run of a flow: it has no step %s', run_again.job, run_again.key);
    end if;
    if is_flow then
        perform hotpath.cancel_below(run_again.job);
        perform hotpath.lock_runs(array[run_again.job]);
    end if;
    with gone as (
        delete from hotpath.job_done d where d.id = run_again.job and d.done_at >= hotpath.uuid_time(run_again.job) - interval '5 minutes' returning d.*
    ),
    kept as (
        insert into hotpath.job_attempt (id, done_at, started_at, duration_us, worker, attempt, state, error)
        select g.id, g.done_at, g.started_at, g.duration_us, g.worker, g.attempt, g.state, g.error from gone g
    ),
    -- One that killed its workers begins alone again; its crashes are counted anew.
    back as (
        insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, attempt, suspect, timeout_ms, args)
        select g.id, now(), g.tag, g.script, g.priority, g.attempt, case when g.error ->> 'kind' = 'crash' then 3 end, g.timeout_ms, g.args from gone g
        returning tag
    )
    select b.tag into tag_key from back b;
    if not found then
        return false;
    end if;
    if is_flow then
        if run_again.key is not null then
            -- Steps as they count now, the latest of each.
            with steps as materialized (
                select distinct on (u.key) u.* from (
                    select c.key, c.id, c.state, c.done_at, c.ended_at, c.outcome, c.args from hotpath.checkpoint c where c.run = run_again.job
                    union all
                    select d.step, d.id, d.state, d.done_at, coalesce(d.started_at + d.duration_us * interval '1 microsecond', d.done_at),
                        coalesce(d.result, d.error), d.args
                    from hotpath.job_done d where d.parent = run_again.job and d.done_at >= greatest(hotpath.uuid_time(run_again.job) - interval '5 minutes',
                        (select f.since from hotpath.flow_run f where f.id = run_again.job))) u
                order by u.key, u.done_at desc
            ),
            -- One transaction's steps are told apart by the worker's clock; what depends on a step ends after it.
            early as (
                select s.* from steps s join steps o on o.key = run_again.key and (s.done_at, s.ended_at) < (o.done_at, o.ended_at)
                where not hotpath.is_within(s.key, run_again.key) and s.outcome is not null
            ),
            stored as (
                insert into hotpath.checkpoint (run, key, id, state, done_at, ended_at, outcome, args)
                select run_again.job, e.key, e.id, e.state, e.done_at, e.ended_at, e.outcome, e.args from early e
                on conflict (run, key) do update set id = excluded.id, state = excluded.state, done_at = excluded.done_at, ended_at = excluded.ended_at,
                    outcome = excluded.outcome, args = excluded.args
            )
            select (select s.done_at from steps s where s.key = run_again.key) as at, array(select e.key from early e) as keys into began, kept;
            if began is null then
                raise exception using errcode = 'HP003', message = format('run %s has no step %s that has ended', run_again.job, run_again.key);
            end if;
        end if;
        delete from hotpath.checkpoint c where c.run = run_again.job and c.key <> all (kept);
        delete from hotpath.flow_event e where e.run = run_again.job and e.key <> all (kept);
        delete from hotpath.waiter w using hotpath.flow_child c
            where c.run = run_again.job and w.job = c.id and w.client = '00000000-0000-0000-0000-000000000000';
        delete from hotpath.flow_child c where c.run = run_again.job and c.key <> all (kept);
        -- What was decided at kept steps stands, and what was decided before the step, save within it.
        with gone as (
            delete from hotpath.mark m where m.run = run_again.job and (m.key = 'early:' or hotpath.step_of_mark(m.key) <> all (kept)
                and (run_again.key is null or hotpath.is_within(hotpath.step_of_mark(m.key), run_again.key) or m.at >= began))
            returning m.key
        )
        select array_agg(hotpath.step_of_mark(g.key)) into blank from gone g where starts_with(g.key, 'blank:');
        if blank is not null then
            perform hotpath.blank_steps(run_again.job, blank);
        end if;
        insert into hotpath.flow_run as f (id, generation, since) values (run_again.job, 1, clock_timestamp())
            on conflict (id) do update set generation = f.generation + 1, since = excluded.since, early = null, copied = null;
    end if;
    if exists (select from hotpath.doze d where d.tag = tag_key and d.until > now()) then
        perform pg_notify('hotpath', tag_key::text);
    end if;
    return true;
end $$;

-- Runs a job that has ended once more, under the same id; a flow's run begins anew. False when it has not ended.
create or replace function hotpath.retry(job uuid) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    select hotpath.run_again(retry.job, null)
$$;

-- Runs a flow's run that has ended once more, from this step on. False when it has not ended; HP003 when it has no such step.
create function hotpath.retry_from(run uuid, key text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    if key is null then
        raise exception using errcode = 'HP003', message = 'key must be that of a step, not NULL';
    end if;
    return hotpath.run_again(run, key);
end $$;

-- ---------------------------------------------------------------- approvals

-- Says to a run that waits behind a step that it may go on, or not. True: it was taken. HP004 says why it was not: the token was used
-- (the nonce), the run has ended, or it has its answer. May come before the run waits.
create function hotpath.resume(run uuid, key text, payload json, approved boolean, approver text, nonce bytea) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    mark json;
    tag_key int8;
begin
    if resume.run is null or resume.key is null or resume.approved is null or coalesce(octet_length(resume.nonce), 0) not between 8 and 64 then
        raise exception using errcode = 'HP003', message = 'run, key and approved must not be NULL, nonce must be of 8 to 64 bytes';
    end if;
    if octet_length(resume.payload::text) > 1048576 then
        raise exception using errcode = 'HP003', message = format('payload is %s bytes as JSON; the limit is 1048576 (1 MiB)', octet_length(resume.payload::text));
    end if;
    perform hotpath.lock_runs(array[resume.run]);
    if exists (select from hotpath.flow_event e where e.run = resume.run and e.key = resume.key and e.nonce = resume.nonce) then
        raise exception using errcode = 'HP004', message = format('step %s of run %s: this token has been used', resume.key, resume.run);
    end if;
    if not exists (select from hotpath.job_get(resume.run) j where j.state in ('queued', 'running')) then
        raise exception using errcode = 'HP004', message = format('step %s of run %s: the run has ended, or there is none', resume.key, resume.run);
    end if;
    select m.value into mark from hotpath.mark m where m.run = resume.run and m.key = 'suspend:' || resume.key;
    if found then
        if exists (select from hotpath.flow_event e where e.run = resume.run and e.key = resume.key and not e.approved)
            or (select count(*) from hotpath.flow_event e where e.run = resume.run and e.key = resume.key)
                >= coalesce((mark ->> 'required')::int8, 1) then
            raise exception using errcode = 'HP004', message = format('step %s of run %s has its answer', resume.key, resume.run);
        end if;
        if extract(epoch from clock_timestamp()) * 1000000 > (mark ->> 'until')::numeric then
            raise exception using errcode = 'HP004', message = format('step %s of run %s: the time to answer is over', resume.key, resume.run);
        end if;
    end if;
    insert into hotpath.flow_event (run, key, nonce, approved, payload, approver)
        values (resume.run, resume.key, resume.nonce, resume.approved, resume.payload, resume.approver);
    insert into hotpath.flow_run (id) values (resume.run) on conflict (id) do nothing;
    update hotpath.job_queue q set scheduled_for = now() where q.id = resume.run and q.scheduled_for > now() returning q.tag into tag_key;
    if found and exists (select from hotpath.doze d where d.tag = tag_key and d.until > now()) then
        perform pg_notify('hotpath', tag_key || ' back');
    end if;
    return true;
end $$;

-- ---------------------------------------------------------------- what ended runs leave

-- Drops what was kept of runs that have ended: of how many nothing is kept any more, and which of them are to be asked for once more, because
-- they had more than one statement should drop. Of a run that did not succeed it stays, so that the run can be retried from a step, until
-- the run's own row has gone; of one that was retried, its checkpoints. Steps that are marked `blank:` lose their args, result and log. Runs
-- whose lock somebody has, and those with jobs that have not ended, are passed over: nobody waits for this, and this for nobody.
create function hotpath.forget_runs(runs uuid[], out forgotten integer, out more uuid[])
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    most constant integer := 2000;      -- rows of a table
    bytes constant integer := 33554432; -- of checkpoints
    slot integer;
    slots integer[] := '{}';
    ended uuid[];
    good uuid[];
    bare uuid[];
    whole uuid[];
    it uuid;
    blank text[];
    count integer;
    cut boolean := false;
begin
    forgotten := 0;
    more := '{}';
    -- What is forgotten may come back if the server crashes: it is forgotten once more then.
    perform set_config('synchronous_commit', 'off', true);
    for slot in select distinct hotpath.slot_of(f.id) from hotpath.flow_run f where f.id = any (forget_runs.runs) order by 1 loop
        if pg_try_advisory_xact_lock(73108687, slot) then
            slots := slots || slot;
        end if;
    end loop;
    -- Looked at behind the locks. `state` is null for a run whose own row has gone. What people have answered is kept until then: the run
    -- may be retried from a step behind it.
    select array_agg(r.id order by r.id), array_agg(r.id order by r.id) filter (where r.state is null or r.state = 1 and not r.answered),
        array_agg(r.id order by r.id) filter (where r.state is null or r.state = 1 and not r.answered and not r.retried),
        array_agg(r.id order by r.id) filter (where r.state is null or r.state = 1 and not r.answered and not r.retried and not r.early)
    into ended, good, bare, whole
    from (
        select f.id, f.generation > 0 as retried, f.early is not null as early, coalesce(d.state, q.state) as state,
            exists (select from hotpath.flow_event e where e.run = f.id and e.key <> 'slot:') as answered
        from hotpath.flow_run f
        left join lateral (
            select d.state from hotpath.job_done d where d.id = f.id and d.done_at >= hotpath.uuid_time(f.id) - interval '5 minutes' limit 1) d on true
        left join lateral (select 0::int2 as state from hotpath.job_get(f.id) limit 1) q on d.state is null
        where f.id = any (forget_runs.runs) and hotpath.slot_of(f.id) = any (slots)
            and not exists (select from hotpath.flow_child c where c.run = f.id and not c.done)) r
    where r.state is distinct from 0;
    if ended is null then
        return;
    end if;

    for it in select distinct m.run from hotpath.mark m where m.run = any (ended) and starts_with(m.key, 'blank:') order by 1 loop
        blank := array(select m.key from hotpath.mark m where m.run = it and starts_with(m.key, 'blank:') order by m.key limit most);
        delete from hotpath.checkpoint c where c.run = it and c.key = any (array(select hotpath.step_of_mark(u.key) from unnest(blank) as u (key)));
        perform hotpath.blank_steps(it, array(select hotpath.step_of_mark(u.key) from unnest(blank) as u (key)));
        delete from hotpath.mark m where m.run = it and m.key = any (blank);
        if cardinality(blank) = most and exists (select from hotpath.mark m where m.run = it and starts_with(m.key, 'blank:')) then
            more := more || it;
            good := array_remove(good, it);
            bare := array_remove(bare, it);
            whole := array_remove(whole, it);
        end if;
    end loop;

    delete from hotpath.checkpoint c where c.ctid = any (array(
        select s.at from (
            select c.at, sum(c.size) over (order by c.run, c.key) - c.size as before
            from (select c.ctid as at, c.run, c.key, coalesce(pg_column_size(c.outcome), 0) + coalesce(pg_column_size(c.args), 0) as size
                  from hotpath.checkpoint c where c.run = any (bare) order by c.run, c.key limit most) c) s
        where s.before < bytes));
    get diagnostics count = row_count;
    cut := cut or count > 0 and exists (select from hotpath.checkpoint c where c.run = any (bare));
    delete from hotpath.mark m where m.ctid = any (array(select m.ctid from hotpath.mark m where m.run = any (good) order by m.run, m.key limit most));
    get diagnostics count = row_count;
    cut := cut or count = most;
    delete from hotpath.flow_event e where e.ctid = any (array(
        select e.ctid from hotpath.flow_event e where e.run = any (good) order by e.run, e.key, e.nonce limit most));
    get diagnostics count = row_count;
    cut := cut or count = most;
    delete from hotpath.flow_child c where c.ctid = any (array(select c.ctid from hotpath.flow_child c where c.run = any (good) limit most));
    get diagnostics count = row_count;
    cut := cut or count = most;
    if cut then
        for it in select u.run from unnest(good) as u (run)
            where exists (select from hotpath.checkpoint c where c.run = u.run and u.run = any (bare)) or exists (select from hotpath.mark m where m.run = u.run)
                or exists (select from hotpath.flow_event e where e.run = u.run) or exists (select from hotpath.flow_child c where c.run = u.run)
        loop
            more := more || it;
            whole := array_remove(whole, it);
        end loop;
    end if;
    delete from hotpath.flow_run f where f.id = any (whole);
    get diagnostics forgotten = row_count;
end $$;

-- ---------------------------------------------------------------- rights
revoke all on all functions in schema hotpath from public;
do $$
declare role text;
begin
    foreach role in array array['hotpath_enqueue', 'hotpath_worker', 'hotpath_read'] loop
        if exists (select from pg_roles where rolname = role) then
            if role = 'hotpath_enqueue' then
                execute format('grant execute on function hotpath.retry_from, hotpath.resume to %I', role);
            elsif role = 'hotpath_read' then
                execute format('grant select on hotpath.flow_run, hotpath.checkpoint, hotpath.mark, hotpath.flow_event, hotpath.flow_child, hotpath.flow_cache to %I', role);
                execute format('grant execute on function hotpath.iteration_of, hotpath.is_within, hotpath.slot_of, hotpath.step_of_mark to %I', role);
            else
                execute format('grant select, insert, update, delete on all tables in schema hotpath to %I', role);
                execute format('grant execute on all functions in schema hotpath to %I', role);
            end if;
        end if;
    end loop;
end $$;
