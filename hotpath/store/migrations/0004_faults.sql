-- Nothing lost, nothing stuck: time-outs of jobs, cancel of what runs, leases that lose their places one by one, retry of what ended.

alter table hotpath.job_queue add column timeout_ms integer;   -- null: the script's own
alter table hotpath.batch add column timeouts integer[];       -- null when no job has one
alter table hotpath.job_done add column timeout_ms integer;    -- so that a retry keeps it
alter table hotpath.lease add column cancels bytea;            -- bit k - lo: somebody asked to cancel job k while it runs
-- Jobs that have run before, few: what `--drain` still waits for although it is scheduled for later.
create index job_queue_again on hotpath.job_queue (tag, script) where attempt > 0;

-- ---------------------------------------------------------------- bits of a lease

-- Bits that are set in either; null is none.
create function hotpath.either_bits(a bytea, b bytea) returns bytea language sql immutable parallel safe
begin atomic
    select case when a is null then b when b is null then a
        else substring(varbit_send(('x' || encode(a, 'hex'))::varbit | ('x' || encode(b, 'hex'))::varbit) from 5) end;
end;

-- `bits` (null: none of `size`) with these set too.
create function hotpath.set_bits(bits bytea, size integer, places integer[]) returns bytea language plpgsql immutable parallel safe as $$
declare
    changed bytea := coalesce(bits, decode(repeat('00', (size + 7) / 8), 'hex'));
    place integer;
begin
    foreach place in array places loop
        changed := set_bit(changed, place, 1);
    end loop;
    return changed;
end $$;

-- The error object of a job that ended without its own words.
create function hotpath.error_object(name text, message text, kind text) returns json language sql immutable parallel safe
begin atomic
    select json_build_object('name', name, 'message', message, 'traceback', '', 'kind', kind);
end;

-- ---------------------------------------------------------------- enqueue, with a time-out

drop function hotpath.enqueue(text, jsonb, text, integer, timestamptz);
-- Adds one job, in the caller's transaction. Refuses an unknown script (HP001), bad args (HP002) and bad values (HP003).
create function hotpath.enqueue(script text, args jsonb default '{}', tag text default null, priority integer default 0,
    scheduled_for timestamptz default now(), timeout_ms integer default null) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    known record;
    problem text;
    new_id constant uuid := hotpath.uuid7();
    tag_key int8;
    body constant text := enqueue.args::text;
begin
    select s.id, s.tag, s.priority, v.schema into known
        from hotpath.script s join hotpath.script_version v on v.id = s.version where s.name = enqueue.script;
    if not found then
        raise exception using errcode = 'HP001', message = format('script %s is not registered in this database', coalesce(quote_literal(enqueue.script), 'NULL')),
            hint = format('run `hotpath deploy`, or start `hotpath dedicate %s`', coalesce(enqueue.script, 'NAME'));
    end if;
    problem := hotpath.check_args(known.schema, enqueue.args);
    if problem is not null then
        raise exception using errcode = 'HP002', message = problem;
    end if;
    if enqueue.priority is null or enqueue.priority not between -32768 and 32767 then
        raise exception using errcode = 'HP003', message = format('priority must be an integer from -32768 to 32767, not %s', coalesce(enqueue.priority::text, 'NULL'));
    end if;
    if enqueue.scheduled_for is null or not isfinite(enqueue.scheduled_for) then
        raise exception using errcode = 'HP003', message = format('scheduled_for must be a time, not %s', coalesce(enqueue.scheduled_for::text, 'NULL'));
    end if;
    if enqueue.timeout_ms <= 0 then
        raise exception using errcode = 'HP003', message = format('timeout_ms must be above 0, not %s', enqueue.timeout_ms);
    end if;
    if octet_length(body) > 16777216 then
        raise exception using errcode = 'HP002', message = format('args are %s bytes as JSON; the limit is 16777216 (16 MiB)', octet_length(body));
    end if;
    if enqueue.tag is null then
        tag_key := known.tag;
    else
        if enqueue.tag = '' or octet_length(enqueue.tag) > 255 then
            raise exception using errcode = 'HP003', message = 'tag must be 1 to 255 bytes long';
        end if;
        tag_key := hotpath.tag_id(enqueue.tag);
        if not exists (select from hotpath.tag t where t.id = tag_key) and not exists (select from hotpath.tag_seen t where t.id = tag_key) then
            insert into hotpath.tag_seen (id, name) values (tag_key, enqueue.tag);
        end if;
    end if;
    if octet_length(body) > 8192 then
        insert into hotpath.payload (id, args) values (new_id, body::json);
    end if;
    insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, timeout_ms, args)
        values (new_id, enqueue.scheduled_for, tag_key, known.id, case when enqueue.priority = 0 then known.priority else enqueue.priority end,
            enqueue.timeout_ms, case when octet_length(body) > 8192 then null else body::json end);
    -- At most one NOTIFY a transaction (PostgreSQL folds equal ones), none when nobody sleeps on the tag.
    if enqueue.scheduled_for <= now() and exists (select from hotpath.doze d where d.tag = tag_key and d.until > now()) then
        perform pg_notify('hotpath', tag_key::text);
    end if;
    return new_id;
end $$;

-- ---------------------------------------------------------------- cancel

-- Cancels a job that waits; asks whoever runs it to end it if it runs. False when it is unknown or has ended.
create or replace function hotpath.cancel(job uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    k constant integer := hotpath.ordinal_of(cancel.job);
    sealed_in constant uuid := hotpath.batch_of(cancel.job);
    why constant json := hotpath.error_object('JobCanceled', 'canceled before it started', 'canceled');
    holder integer;
    it record;
begin
    -- A job moves between its places (claimed, given back) while we look into one after the other: then look again.
    for look in 1 .. 20 loop
        with gone as (delete from hotpath.job_queue q where q.id = cancel.job returning q.*),
        done as (insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state, args, error, timeout_ms)
            select g.id, g.scheduled_for, g.tag, g.script, g.priority, g.attempt, 3, g.args, why, g.timeout_ms from gone g returning 1)
        select 1 as one into it from done;
        if found then
            perform pg_notify('hotpath_done', w.job::text) from hotpath.waiter w where w.job = cancel.job;
            return true;
        end if;
        -- It runs: the request stands in the lease's row, so that a flush or give-back which we wait for is seen, and sees us.
        update hotpath.lease l set cancels = hotpath.set_bits(l.cancels, l.hi - l.lo, array[p.place - l.lo])
            from (select b.base, k as place from hotpath.batch b where b.base = sealed_in and b.ids is null and k < b.next and (b.skip is null or get_bit(b.skip, k) = 0)
                  union all
                  select b.base, array_position(b.ids, cancel.job) - 1 from hotpath.batch b where b.ids is not null and cancel.job = any (b.ids)) p
            where l.batch = p.base and p.place >= l.lo and p.place < l.hi and (l.done is null or get_bit(l.done, p.place - l.lo) = 0)
            returning l.worker into holder;
        if found then
            perform pg_notify('hotpath_cancel', holder::text);
            return true;
        end if;
        -- It waits in a sealed batch: `next` and `skip` are read and changed by the one statement that locks the row.
        begin
            update hotpath.batch b set skip = hotpath.set_bits(b.skip, b.n, array[k])
                where b.base = sealed_in and b.ids is null and k < b.n and k >= b.next and (b.skip is null or get_bit(b.skip, k) = 0)
                returning b.scheduled_for, b.tag, b.script, b.priority, b.args[k + 1] as args, b.timeouts[k + 1] as timeout_ms into it;
            if found then
                insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state, args, error, timeout_ms)
                    values (cancel.job, it.scheduled_for, it.tag, it.script, it.priority, 0, 3, it.args, why, it.timeout_ms);
                perform pg_notify('hotpath_done', w.job::text) from hotpath.waiter w where w.job = cancel.job;
                return true;
            end if;
            -- Undoes the block, and so lets the row go: a flush locks the lease first and then the batch, and so do we.
            raise exception using errcode = 'HP999', message = 'not there';
        exception when sqlstate 'HP999' then null;
        end;
        exit when not exists (select from hotpath.job_get(cancel.job) j where j.state in ('queued', 'running'));
    end loop;
    return false;
end $$;

-- ---------------------------------------------------------------- retry

-- Runs a job that has ended once more, under the same id: what it ended with becomes an earlier attempt. False when it has not ended.
create function hotpath.retry(job uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    tag_key int8;
begin
    with gone as (
        delete from hotpath.job_done d where d.id = retry.job and d.done_at >= hotpath.uuid_time(retry.job) - interval '5 minutes' returning d.*
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
    if exists (select from hotpath.doze d where d.tag = tag_key and d.until > now()) then
        perform pg_notify('hotpath', tag_key::text);
    end if;
    return true;
end $$;

-- Every run of a job that has ended, and the one under way, in order.
create function hotpath.job_attempts(id uuid) returns table (attempt integer, state text, started_at timestamptz, finished_at timestamptz,
    duration_ms double precision, worker text, error json)
language sql stable parallel safe security definer set search_path = pg_catalog, pg_temp as $$
    select u.* from (
        select a.attempt::integer, case a.state when 1 then 'success' when 2 then 'failure' else 'canceled' end, a.started_at,
            coalesce(a.started_at + a.duration_us * interval '1 microsecond', a.done_at), a.duration_us / 1000.0::double precision, w.name, a.error
        from hotpath.job_attempt a left join hotpath.worker w on w.id = a.worker
        where a.id = job_attempts.id and a.done_at >= hotpath.uuid_time(job_attempts.id) - interval '5 minutes'
        union all
        select j.attempt, j.state, j.started_at, j.finished_at, j.duration_ms, j.worker, j.error
        from hotpath.job_get(job_attempts.id) j where j.state <> 'queued') u (attempt, state, started_at, finished_at, duration_ms, worker, error)
    order by u.attempt, u.finished_at nulls last
$$;

-- ---------------------------------------------------------------- rights, as 0003 gave them
revoke all on all functions in schema hotpath from public;
do $$
declare role text;
begin
    foreach role in array array['hotpath_enqueue', 'hotpath_worker', 'hotpath_read'] loop
        if exists (select from pg_roles where rolname = role) then
            if role = 'hotpath_enqueue' then
                execute format('grant execute on function hotpath.enqueue, hotpath.cancel, hotpath.retry, hotpath.job_get, hotpath.job_attempts to %I', role);
            elsif role = 'hotpath_read' then
                execute format('grant execute on all functions in schema hotpath to %I', role);
                execute format('revoke execute on function hotpath.enqueue, hotpath.cancel, hotpath.retry, hotpath.make_partitions from %I', role);
            else
                execute format('grant execute on all functions in schema hotpath to %I', role);
            end if;
        end if;
    end loop;
end $$;
