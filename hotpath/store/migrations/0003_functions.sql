-- What SQL clients call: hotpath.enqueue, hotpath.cancel, hotpath.job_get; and the roles that may.

-- One job, wherever it is, by primary keys alone (the view scans). Who may enqueue may look up: the id is what he has to know.
create function hotpath.job_get(id uuid) returns setof hotpath.job
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
            w.name, d.attempt::integer, coalesce(d.args, (select p.args from hotpath.payload p where p.id = d.id)), d.result, d.error
        from hotpath.job_done d join hotpath.script s on s.id = d.script left join hotpath.worker w on w.id = d.worker
        where d.id = wanted and d.done_at >= hotpath.uuid_time(wanted) - interval '5 minutes';
    if found then return; end if;
    return query select q.id, s.name, hotpath.tag_name(q.tag), 'queued', q.priority::integer, q.scheduled_for, hotpath.uuid_time(q.id),
            null::timestamptz, null::timestamptz, null::double precision, null::text, q.attempt::integer,
            coalesce(q.args, (select p.args from hotpath.payload p where p.id = q.id)), null::json, null::json
        from hotpath.job_queue q join hotpath.script s on s.id = q.script where q.id = wanted;
    if found then return; end if;
    -- In a batch: sealed (the id says which and where), or gathered by a claim (only while it is leased).
    return query select wanted, s.name, hotpath.tag_name(b.tag), case when l.id is null then 'queued' else 'running' end,
            coalesce(b.priorities[k1 + 1], b.priority)::integer, coalesce(b.scheduled[k1 + 1], b.scheduled_for), hotpath.uuid_time(wanted),
            l.claimed_at, null::timestamptz, null::double precision, w.name,
            (coalesce(b.attempts[k1 + 1], 0) + (l.id is not null)::integer)::integer,
            coalesce(b.args[k1 + 1], (select p.args from hotpath.payload p where p.id = wanted)), null::json, null::json
        from (select b.*, k as k1 from hotpath.batch b where b.base = hotpath.batch_of(wanted) and b.ids is null and k < b.n
              union all
              select b.*, array_position(b.ids, wanted) - 1 from hotpath.batch b where b.ids is not null and wanted = any (b.ids)) b
        join hotpath.script s on s.id = b.script
        left join hotpath.lease l on l.batch = b.base and k1 >= l.lo and k1 < l.hi and (l.done is null or get_bit(l.done, k1 - l.lo) = 0)
        left join hotpath.worker w on w.id = l.worker
        where (l.id is not null or k1 >= b.next) and (b.skip is null or get_bit(b.skip, k1) = 0);
end $$;

-- Adds one job, in the caller's transaction. Refuses an unknown script (HP001), bad args (HP002) and bad values (HP003).
create function hotpath.enqueue(script text, args jsonb default '{}', tag text default null, priority integer default 0,
    scheduled_for timestamptz default now()) returns uuid
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
    insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, args)
        values (new_id, enqueue.scheduled_for, tag_key, known.id, case when enqueue.priority = 0 then known.priority else enqueue.priority end,
            case when octet_length(body) > 8192 then null else body::json end);
    -- At most one NOTIFY a transaction (PostgreSQL folds equal ones), none when nobody sleeps on the tag.
    if enqueue.scheduled_for <= now() and exists (select from hotpath.doze d where d.tag = tag_key and d.until > now()) then
        perform pg_notify('hotpath', tag_key::text);
    end if;
    return new_id;
end $$;

-- Cancels a job that waits; false when it is unknown, done, or already running.
create function hotpath.cancel(job uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    k constant integer := hotpath.ordinal_of(cancel.job);
    why constant json := '{"name": "JobCanceled", "message": "canceled before it started", "traceback": "", "kind": "canceled"}';
    b record;
begin
    with gone as (delete from hotpath.job_queue q where q.id = cancel.job returning q.*),
    done as (insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state, args, error)
        select g.id, g.scheduled_for, g.tag, g.script, g.priority, g.attempt, 3, g.args, why from gone g returning 1)
    select 1 as one into b from done;
    if found then
        perform pg_notify('hotpath_done', w.job::text) from hotpath.waiter w where w.job = cancel.job;
        return true;
    end if;
    -- `next` and `skip` are read and changed under the row's own lock: a claim cannot slip in between.
    select * into b from hotpath.batch where base = hotpath.batch_of(cancel.job) and ids is null and k < n for update;
    if not found or k < b.next or (b.skip is not null and get_bit(b.skip, k) = 1) then
        return false;
    end if;
    update hotpath.batch set skip = set_bit(coalesce(b.skip, decode(repeat('00', (b.n + 7) / 8), 'hex')), k, 1) where base = b.base;
    insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state, args, error)
        values (cancel.job, b.scheduled_for, b.tag, b.script, b.priority, coalesce(b.attempts[k + 1], 0), 3, b.args[k + 1], why);
    perform pg_notify('hotpath_done', w.job::text) from hotpath.waiter w where w.job = cancel.job;
    return true;
end $$;

-- ---------------------------------------------------------------- rights: nothing for PUBLIC
revoke all on all tables in schema hotpath from public;
revoke all on all functions in schema hotpath from public;
do $$
declare role text;
begin
    foreach role in array array['hotpath_enqueue', 'hotpath_worker', 'hotpath_read'] loop
        begin
            if not exists (select from pg_roles where rolname = role) then
                execute format('create role %I nologin', role);
            end if;
        exception when insufficient_privilege or duplicate_object or unique_violation then null;  -- an administrator makes them, or another database did
        end;
        if exists (select from pg_roles where rolname = role) then
            execute format('grant usage on schema hotpath to %I', role);
            if role = 'hotpath_enqueue' then
                execute format('grant execute on function hotpath.enqueue, hotpath.cancel, hotpath.job_get to %I', role);
            elsif role = 'hotpath_read' then
                execute format('grant select on all tables in schema hotpath to %I', role);
                execute format('grant execute on all functions in schema hotpath to %I', role);
                execute format('revoke execute on function hotpath.enqueue, hotpath.cancel, hotpath.make_partitions from %I', role);
            else
                execute format('grant select, insert, update, delete on all tables in schema hotpath to %I', role);
                execute format('grant execute on all functions in schema hotpath to %I', role);
            end if;
        end if;
    end loop;
end $$;
