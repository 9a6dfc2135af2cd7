-- Limits: of how many jobs run at a time or start within a time, for a script or for each key of it; jobs that are put in once for a key;
-- tags that are paused; jobs that wait for too long; tags that depend on the args. docs/limits.md tells what they promise.
--
-- Scripts that use none of it pay nothing: their claims, flushes and rows are what they were. What a script uses stands in its row
-- (`limits`, `entry`), made of its version's settings by a trigger whenever its version is chosen.

-- Programs before this one claim jobs without heeding limits, and would exceed them.
update hotpath.meta set oldest_program = greatest(oldest_program, 3);
alter table hotpath.meta add column workspace text not null default 'main' check (workspace <> '' and octet_length(workspace) <= 100);

alter table hotpath.script
    add column limits jsonb,                              -- {"concurrency", "rate", "seconds", "key"} as it holds now; null: none
    add column limit_scope integer,                       -- whose places its jobs take: a pinned version's are those of the script
    add column entry jsonb,                               -- what is done to its jobs as they are put in; null: nothing
    add column claim_apart boolean not null default false; -- claimed by hotpath.claim_limited alone
create index script_limited on hotpath.script (limit_scope) where limit_scope is not null;
create index script_apart on hotpath.script (id) where claim_apart;

-- A limit set by command, in the place of what the version says. '{}': no limit.
create table hotpath.limit_override (
    script integer not null primary key references hotpath.script,
    limits jsonb not null,
    set_by text not null default '',
    set_at timestamptz not null default now()
);

alter table hotpath.job_queue
    add column limit_key int8,         -- hash of the limit's key; null: the script had no such limit when the job was put in
    add column expires_at timestamptz; -- ends unless it was claimed by then; null: never
alter table hotpath.batch
    add column keys int8[],            -- of jobs that were claimed under a limit with a key
    add column expires_at timestamptz; -- of a sealed batch
create index job_queue_keyed on hotpath.job_queue (script, tag, limit_key, priority desc, scheduled_for, id) where limit_key is not null;
create index job_queue_expires on hotpath.job_queue (expires_at) where expires_at is not null;
create index batch_expires on hotpath.batch (expires_at) where expires_at is not null and next < n;

-- Starts that a rate counts, by lease and key. It counts until `begun` (when all of the lease's jobs have surely begun) and the rate's
-- time; while that is not known, and the lease is there, without end.
create table hotpath.limit_start (
    scope integer not null,
    key int8 not null,
    lease int8 not null,
    worker integer not null,
    n integer not null,
    begun timestamptz,
    primary key (lease, key)
);
create index limit_start_begun on hotpath.limit_start (scope, key, begun);
create index limit_start_open on hotpath.limit_start (scope) where begun is null;

-- The job that has a key now, and since when.
create table hotpath.unique_job (
    key bytea not null primary key,    -- SHA-256 of script and key
    script integer not null,
    job uuid not null,
    since timestamptz not null,
    until timestamptz,                 -- it counts until then; null: while the job waits, or has not ended
    seen_at timestamptz not null default clock_timestamp()
);
create index unique_job_seen on hotpath.unique_job (seen_at);

create table hotpath.tag_pause (
    tag int8 not null primary key,
    until timestamptz,                 -- null: until it is resumed
    reason text not null default '',
    paused_by text not null default '',
    paused_at timestamptz not null default now()
);

alter table hotpath.limit_start set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
alter table hotpath.unique_job set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- ---------------------------------------------------------------- text made of args: hotpath/core/placeholders.py does the same

-- `template` with each `$args[a.b]` replaced by that field of the args and `$workspace` by the workspace's name. A field that is not there,
-- or is null, becomes `missing`; without that, and where a field is a list or an object, it is refused (HP002), naming it and `what`.
create function hotpath.fill(template text, args jsonb, what text, missing text default null) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    place constant text := '\$args\[([^\[\]]+)\]|\$workspace';
    literals constant text[] := regexp_split_to_array(template, place);
    filled text := literals[1];
    i integer := 1;
    found text[];
    value jsonb;
    part text;
begin
    for found in select regexp_matches(template, place, 'g') loop
        i := i + 1;
        if found[1] is null then
            filled := filled || (select m.workspace from hotpath.meta m) || literals[i];
            continue;
        end if;
        value := args;
        foreach part in array string_to_array(found[1], '.') loop
            value := case when jsonb_typeof(value) = 'object' then value -> part end;
        end loop;
        case coalesce(jsonb_typeof(value), 'null')
            when 'string' then filled := filled || (value #>> '{}') || literals[i];
            when 'number', 'boolean' then filled := filled || value::text || literals[i];
            when 'null' then
                if missing is null then
                    raise exception using errcode = 'HP002', message = format('args.%s is missing, and %s is made of it', found[1], what);
                end if;
                filled := filled || missing || literals[i];
            else
                raise exception using errcode = 'HP002',
                    message = format('args.%s must be text, a number, true or false: %s is made of it', found[1], what);
        end case;
    end loop;
    return filled;
end $$;

-- The hash of a limit's key for these args. A field that is not there has a key of its own.
create function hotpath.limit_key(template text, args jsonb) returns int8 language sql stable set search_path = pg_catalog, pg_temp
return hotpath.tag_id(hotpath.fill(template, args, 'the key of the limit', chr(1)));

-- The same for a job that is in the queue already, where nobody can be refused: whatever cannot be a key is as good as missing.
create function hotpath.limit_key_of(template text, job uuid, args json) returns int8 language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return hotpath.limit_key(limit_key_of.template, coalesce(limit_key_of.args, (select p.args from hotpath.payload p where p.id = limit_key_of.job))::jsonb);
exception when sqlstate 'HP002' or data_exception then
    return hotpath.tag_id(chr(1));
end $$;

-- A tag made of args, checked: HP002 for the field, HP003 for what comes of it.
create function hotpath.fill_tag(template text, args jsonb) returns text language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    filled constant text := hotpath.fill(template, args, format('the tag %s', template));
begin
    if filled = '' or octet_length(filled) > 255 then
        raise exception using errcode = 'HP003', message = format('the tag %s comes out as %s bytes; it must be 1 to 255 bytes long', template, octet_length(filled));
    end if;
    return filled;
end $$;

-- Remember a tag's name, unless it is known.
create function hotpath.see_tag(key int8, name text) returns void language sql volatile set search_path = pg_catalog, pg_temp as $$
    insert into hotpath.tag_seen (id, name) select see_tag.key, see_tag.name
    where not exists (select from hotpath.tag t where t.id = see_tag.key) and not exists (select from hotpath.tag_seen t where t.id = see_tag.key)
$$;

-- ---------------------------------------------------------------- what a script's settings come to

create function hotpath.derive_limits() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    base constant integer := coalesce((select s.id from hotpath.script s where new.name ~ '@[0-9a-f]{12}$' and s.name = left(new.name, -13)), new.id);
    said constant jsonb := (select v.settings from hotpath.script_version v where v.id = new.version);
    own constant jsonb := coalesce((select o.limits from hotpath.limit_override o where o.script = base), jsonb_strip_nulls(jsonb_build_object(
        'concurrency', said -> 'limit' -> 'concurrency', 'rate', said -> 'limit' -> 'rate' -> 0, 'seconds', said -> 'limit' -> 'rate' -> 1,
        'key', said -> 'limit' -> 'key')));
begin
    new.limits := case when own ?| array['concurrency', 'rate'] then own end;
    new.limit_scope := case when new.limits is not null then base end;
    new.entry := nullif(jsonb_strip_nulls(jsonb_build_object(
        'tag', case when said ->> 'tag' ~ '\$args\[|\$workspace' then said -> 'tag' end, 'key', new.limits -> 'key',
        'unique', nullif(said -> 'unique', 'null'), 'debounce', nullif(said -> 'debounce', 'null'),
        'expires', nullif(said -> 'expires', 'null'), 'on_expire', case when said ->> 'expires' is not null then coalesce(said ->> 'on_expire', 'fail') end)), '{}');
    new.claim_apart := new.limits is not null or coalesce(new.entry ? 'expires', false);
    if tg_op = 'UPDATE' then
        if (new.limits, new.claim_apart) is distinct from (old.limits, old.claim_apart) then
            perform hotpath.config_changed('limit:' || new.name);
        end if;
    end if;
    return new;
end $$;
create trigger derive_limits before insert or update of version on hotpath.script for each row execute function hotpath.derive_limits();

-- Have a script's limit be this one, whatever its version says; null: what its version says.
create function hotpath.limit_set(script text, limits jsonb, set_by text default '') returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    found_id constant integer := (select s.id from hotpath.script s where s.name = limit_set.script);
begin
    if found_id is null then
        raise exception using errcode = 'HP001', message = format('script %s is not registered in this database', coalesce(quote_literal(limit_set.script), 'NULL'));
    end if;
    if limit_set.limits is null then
        delete from hotpath.limit_override o where o.script = found_id;
    else
        insert into hotpath.limit_override as o (script, limits, set_by) values (found_id, limit_set.limits, limit_set.set_by)
            on conflict (script) do update set limits = excluded.limits, set_by = excluded.set_by, set_at = now();
    end if;
    update hotpath.script s set version = s.version where s.id = found_id or (left(s.name, length(limit_set.script) + 1) = limit_set.script || '@');
end $$;

-- ---------------------------------------------------------------- paused tags

create function hotpath.pause_tag(name text, until timestamptz default null, reason text default '', paused_by text default '') returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    if pause_tag.name is null or pause_tag.name = '' or octet_length(pause_tag.name) > 255 then
        raise exception using errcode = 'HP003', message = 'tag must be 1 to 255 bytes long';
    end if;
    insert into hotpath.tag (id, name) values (hotpath.tag_id(pause_tag.name), pause_tag.name) on conflict do nothing;
    insert into hotpath.tag_pause as p (tag, until, reason, paused_by)
        values (hotpath.tag_id(pause_tag.name), pause_tag.until, coalesce(pause_tag.reason, ''), coalesce(pause_tag.paused_by, ''))
        on conflict (tag) do update set until = excluded.until, reason = excluded.reason, paused_by = excluded.paused_by, paused_at = now();
    perform hotpath.config_changed('tag:' || pause_tag.name);
end $$;

-- False: it was not paused.
create function hotpath.resume_tag(name text) returns boolean language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    held timestamptz;
begin
    delete from hotpath.tag_pause p where p.tag = hotpath.tag_id(resume_tag.name) returning coalesce(p.until, 'infinity') into held;
    perform hotpath.config_changed('tag:' || resume_tag.name);
    return coalesce(held > now(), false);
end $$;

-- ---------------------------------------------------------------- one job for a key

-- Whether the job waits; if so, it is held where it is until this transaction ends: nobody can begin it before what comes with it is there.
create function hotpath.hold_waiting(job uuid, fresh boolean default false) returns boolean language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform from hotpath.job_queue q where q.id = hold_waiting.job and (not hold_waiting.fresh or q.attempt = 0) for update skip locked;
    return found;
end $$;

-- The job that has the key and counts still, by `lasts` (`queued`, `unfinished`, or seconds since it was put in); else the key becomes
-- `new_job`'s, and null is returned. Whoever comes with the same key waits here until the transaction that has it ends.
create function hotpath.take_key(key bytea, script integer, new_job uuid, lasts text, on_conflict text, named text) returns uuid
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    held record;
    live boolean;
    ends constant timestamptz := case when take_key.lasts ~ '^\d' then clock_timestamp() + take_key.lasts::float8 * interval '1 second' end;
begin
    loop
        insert into hotpath.unique_job (key, script, job, since, until)
            values (take_key.key, take_key.script, take_key.new_job, clock_timestamp(), ends) on conflict do nothing;
        if found then
            return null;
        end if;
        select u.job, u.since into held from hotpath.unique_job u where u.key = take_key.key for update;
        exit when found;
    end loop;
    live := case take_key.lasts
        when 'queued' then hotpath.hold_waiting(held.job)
        when 'unfinished' then exists (select from hotpath.job_get(held.job) j where j.state in ('queued', 'running'))
        else held.since > clock_timestamp() - take_key.lasts::float8 * interval '1 second' end;
    if live and take_key.on_conflict = 'reject' then
        raise exception using errcode = 'HP006', message = format('job %s has the unique key %s already', held.job, quote_literal(take_key.named));
    end if;
    if live and take_key.on_conflict = 'existing' then
        return held.job;
    end if;
    if live then
        perform hotpath.cancel(held.job);
    end if;
    update hotpath.unique_job u set job = take_key.new_job, since = clock_timestamp(), until = ends, seen_at = clock_timestamp() where u.key = take_key.key;
    return null;
end $$;

-- The waiting job that has the key, moved on and with what was put in now; null: it is `new_job`'s now, to begin at `due`. $ `wait` and `longest`
-- are seconds.
create function hotpath.debounce(key bytea, new_job uuid, wait float8, longest float8, scheduled_for timestamptz, tag int8, script integer, priority int2,
    timeout_ms integer, body text, limit_key int8, out earlier uuid, out due timestamptz)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    held record;
begin
    due := greatest(debounce.scheduled_for, clock_timestamp() + debounce.wait * interval '1 second');
    loop
        insert into hotpath.unique_job (key, script, job, since) values (debounce.key, debounce.script, debounce.new_job, clock_timestamp()) on conflict do nothing;
        if found then
            return;
        end if;
        select u.job, u.since into held from hotpath.unique_job u where u.key = debounce.key for update;
        exit when found;
    end loop;
    if not hotpath.hold_waiting(held.job, fresh => true) then
        update hotpath.unique_job u set job = debounce.new_job, since = clock_timestamp(), seen_at = clock_timestamp() where u.key = debounce.key;
        return;
    end if;
    earlier := held.job;
    if debounce.longest is not null then
        due := least(due, held.since + debounce.longest * interval '1 second');
    end if;
    delete from hotpath.payload p where p.id = held.job;
    if octet_length(debounce.body) > 8192 then
        insert into hotpath.payload (id, args) values (held.job, debounce.body::json);
    end if;
    update hotpath.job_queue q set scheduled_for = debounce.due, tag = debounce.tag, priority = debounce.priority, timeout_ms = debounce.timeout_ms,
        limit_key = debounce.limit_key, expires_at = hotpath.expiry(debounce.script, debounce.due),
        args = case when octet_length(debounce.body) > 8192 then null else debounce.body::json end
        where q.id = held.job;
end $$;

-- When a job of this script that is due then ends if nobody has claimed it; null: never.
create function hotpath.expiry(script integer, due timestamptz) returns timestamptz language sql stable set search_path = pg_catalog, pg_temp as $$
    select expiry.due + (s.entry ->> 'expires')::float8 * interval '1 second' from hotpath.script s where s.id = expiry.script and s.entry ? 'expires'
$$;

-- ---------------------------------------------------------------- enqueue, with all of this

drop function hotpath.enqueue(text, jsonb, text, integer, timestamptz, integer);
-- Adds one job, in the caller's transaction. Refuses an unknown script (HP001), bad args (HP002), bad values (HP003) and a unique key that another
-- job has (HP006). `unique_key`: in the place of the script's; `unique_while` and `on_conflict` likewise.
create function hotpath.enqueue(script text, args jsonb default '{}', tag text default null, priority integer default 0,
    scheduled_for timestamptz default now(), timeout_ms integer default null, unique_key text default null, unique_while text default null,
    on_conflict text default null) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    known record;
    problem text;
    new_id constant uuid := hotpath.uuid7();
    tag_key int8;
    tag_named text;
    body constant text := enqueue.args::text;
    due timestamptz := enqueue.scheduled_for;
    expires timestamptz;
    key_hash int8;
    rank int2;
    earlier uuid;
begin
    select s.id, s.tag, s.priority, v.schema, s.entry into known
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
        tag_named := case when position('$' in enqueue.tag) > 0 then hotpath.fill_tag(enqueue.tag, enqueue.args) else enqueue.tag end;
        tag_key := hotpath.tag_id(tag_named);
        if not exists (select from hotpath.tag t where t.id = tag_key) and not exists (select from hotpath.tag_seen t where t.id = tag_key) then
            insert into hotpath.tag_seen (id, name) values (tag_key, tag_named);
        end if;
    end if;
    rank := case when enqueue.priority = 0 then known.priority else enqueue.priority end;
    if known.entry is not null or enqueue.unique_key is not null then
        if enqueue.tag is null and known.entry ? 'tag' then
            tag_named := hotpath.fill_tag(known.entry ->> 'tag', enqueue.args);
            tag_key := hotpath.tag_id(tag_named);
            perform hotpath.see_tag(tag_key, tag_named);
        end if;
        if known.entry ? 'key' then
            key_hash := hotpath.limit_key(known.entry ->> 'key', enqueue.args);
        end if;
        if enqueue.unique_key is not null or known.entry ? 'unique' then
            earlier := hotpath.take_unique(known.id, known.entry -> 'unique', enqueue.unique_key, enqueue.unique_while, enqueue.on_conflict, enqueue.args, new_id);
        elsif known.entry ? 'debounce' then
            select d.earlier, d.due into earlier, due from hotpath.debounce(
                sha256(convert_to(known.id || ':' || hotpath.fill(coalesce(known.entry -> 'debounce' ->> 'key', ''), enqueue.args, 'the key of debounce'), 'UTF8')), new_id,
                (known.entry -> 'debounce' ->> 'seconds')::float8, (known.entry -> 'debounce' ->> 'longest')::float8, due, tag_key, known.id, rank,
                enqueue.timeout_ms, body, key_hash) d;
        end if;
        if earlier is not null then
            return earlier;
        end if;
        if known.entry ? 'expires' then
            expires := due + (known.entry ->> 'expires')::float8 * interval '1 second';
        end if;
    end if;
    if octet_length(body) > 8192 then
        insert into hotpath.payload (id, args) values (new_id, body::json);
    end if;
    insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, timeout_ms, args, limit_key, expires_at)
        values (new_id, due, tag_key, known.id, rank, enqueue.timeout_ms, case when octet_length(body) > 8192 then null else body::json end, key_hash, expires);
    -- At most one NOTIFY a transaction (PostgreSQL folds equal ones), none when nobody sleeps on the tag.
    if due <= now() and exists (select from hotpath.doze d where d.tag = tag_key and d.until > now()) then
        perform pg_notify('hotpath', tag_key::text);
    end if;
    return new_id;
end $$;

-- What `unique` of a call and of a script's settings come to: `take_key` for their key. Refuses values that mean nothing (HP003).
create function hotpath.take_unique(script integer, said jsonb, unique_key text, unique_while text, on_conflict text, args jsonb, new_job uuid) returns uuid
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    named constant text := hotpath.fill(coalesce(take_unique.unique_key, take_unique.said ->> 'key', ''), take_unique.args, 'the unique key');
    lasts constant text := coalesce(take_unique.unique_while, take_unique.said ->> 'while_', 'unfinished');
    conflict constant text := coalesce(take_unique.on_conflict, take_unique.said ->> 'on_conflict', 'existing');
begin
    if octet_length(named) > 1024 then
        raise exception using errcode = 'HP003', message = format('the unique key comes out as %s bytes; the most are 1024', octet_length(named));
    end if;
    if conflict not in ('reject', 'existing', 'replace') then
        raise exception using errcode = 'HP003', message = format('on_conflict must be reject, existing or replace, not %s', quote_literal(conflict));
    end if;
    if lasts not in ('queued', 'unfinished') and (lasts !~ '^\d{1,10}(\.\d{1,6})?$' or lasts::float8 <= 0) then
        raise exception using errcode = 'HP003', message = format('unique_while must be queued, unfinished or a number of seconds, not %s', quote_literal(lasts));
    end if;
    return hotpath.take_key(sha256(convert_to(take_unique.script || ':' || named, 'UTF8')), take_unique.script, take_unique.new_job, lasts, conflict, named);
end $$;

-- Many jobs of a script, one after the other; an error names the one that it is about, `before` counted in. Who does so has the script's lock: two
-- that have the same keys in another order would wait for each other.
create function hotpath.enqueue_each(script text, args text[], tag text, priority integer, scheduled_for timestamptz, timeout_ms integer, before int8)
returns uuid[] language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    ids uuid[] := '{}';
    i integer := 0;
    one text;
begin
    perform pg_advisory_xact_lock(7310871, s.id) from hotpath.script s where s.name = enqueue_each.script;
    foreach one in array enqueue_each.args loop
        i := i + 1;
        ids[i] := hotpath.enqueue(enqueue_each.script, one::jsonb, enqueue_each.tag, enqueue_each.priority, enqueue_each.scheduled_for, enqueue_each.timeout_ms);
    end loop;
    return ids;
exception when sqlstate 'HP002' or sqlstate 'HP003' or sqlstate 'HP006' or data_exception then
    raise exception using errcode = sqlstate, message = format('job %s of %s: %s', enqueue_each.before + i - 1, enqueue_each.script, sqlerrm);
end $$;

drop function hotpath.enqueue_once(bytea, bytea, text, jsonb, text, integer, timestamptz, integer);
-- As in migration 0010, with what `enqueue` takes now.
create function hotpath.enqueue_once(key bytea, request bytea, script text, args jsonb default '{}', tag text default null, priority integer default 0,
    scheduled_for timestamptz default now(), timeout_ms integer default null, unique_key text default null, unique_while text default null,
    on_conflict text default null) returns table (job uuid, verdict text)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    known record;
    new_id uuid;
begin
    if octet_length(enqueue_once.key) is distinct from 32 or octet_length(enqueue_once.request) is distinct from 32 then
        raise exception using errcode = 'HP003', message = 'key and request must be hashes of 32 bytes';
    end if;
    insert into hotpath.idempotency as i (key, request, job)
        values (enqueue_once.key, enqueue_once.request, '00000000-0000-0000-0000-000000000000')
        on conflict (key) do update set request = excluded.request, job = excluded.job, created_at = excluded.created_at
        where i.created_at < now() - interval '24 hours';
    if not found then
        select i.job, i.request into strict known from hotpath.idempotency i where i.key = enqueue_once.key;
        return query select known.job, case when known.request = enqueue_once.request then 'again' else 'other' end;
        return;
    end if;
    new_id := hotpath.enqueue(script => enqueue_once.script, args => enqueue_once.args, tag => enqueue_once.tag, priority => enqueue_once.priority,
        scheduled_for => enqueue_once.scheduled_for, timeout_ms => enqueue_once.timeout_ms, unique_key => enqueue_once.unique_key,
        unique_while => enqueue_once.unique_while, on_conflict => enqueue_once.on_conflict);
    update hotpath.idempotency i set job = new_id where i.key = enqueue_once.key;
    return query select new_id, 'new';
end $$;

-- ---------------------------------------------------------------- jobs that waited too long

-- End up to `most` loose jobs that nobody has claimed in time; returns how many.
create function hotpath.expire_loose(most integer) returns integer language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    ended_now integer;
begin
    with due as materialized (
        select q.id from hotpath.job_queue q where q.expires_at <= now() order by q.expires_at limit expire_loose.most for update skip locked
    ),
    gone as (delete from hotpath.job_queue q using due where q.id = due.id returning q.*),
    ended as (
        insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state, args, error, timeout_ms)
        select g.id, g.scheduled_for, g.tag, g.script, g.priority, g.attempt, case s.entry ->> 'on_expire' when 'cancel' then 3 else 2 end, g.args,
            hotpath.expired_error(g.scheduled_for, g.expires_at), g.timeout_ms
        from gone g join hotpath.script s on s.id = g.script
        returning id
    ),
    told as materialized (
        select hotpath.tell(array_agg(w.job), array_agg(w.client)) from hotpath.waiter w where w.job in (select id from ended) having count(*) > 0
    )
    select (select count(*) from ended) + 0 * (select count(*) from told) into ended_now;
    return ended_now;
end $$;

-- The same for up to `most` sealed batches: what has not been taken of them; returns how many jobs.
create function hotpath.expire_sealed(most integer) returns integer language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    ended_now integer;
begin
    with due as materialized (
        select b.* from hotpath.batch b where b.expires_at <= now() and b.next < b.n order by b.expires_at limit expire_sealed.most for update skip locked
    ),
    ended as (
        insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state, args, error, timeout_ms)
        select hotpath.job_id(b.base, k), b.scheduled_for, b.tag, b.script, b.priority, 0, case s.entry ->> 'on_expire' when 'cancel' then 3 else 2 end,
            b.args[k + 1], hotpath.expired_error(b.scheduled_for, b.expires_at), b.timeouts[k + 1]
        from due b join hotpath.script s on s.id = b.script cross join lateral generate_series(b.next::int4, b.n - 1) k
        where b.skip is null or get_bit(b.skip, k) = 0
        returning id
    ),
    emptied as (delete from hotpath.batch t using due b where t.base = b.base and b.open = b.n - b.next),
    closed as (update hotpath.batch t set next = b.n, open = b.open - (b.n - b.next) from due b where t.base = b.base and b.open > b.n - b.next),
    told as materialized (
        select hotpath.tell(array_agg(w.job), array_agg(w.client)) from hotpath.waiter w where w.job in (select id from ended) having count(*) > 0
    )
    select (select count(*) from ended) + 0 * (select count(*) from told) into ended_now;
    return ended_now;
end $$;

create function hotpath.expired_error(due timestamptz, expired timestamptz) returns json language sql stable set search_path = pg_catalog, pg_temp as $$
    select hotpath.error_object('JobExpired', format('nobody began it within %s s of its time', round(extract(epoch from expired - due)::numeric, 3)::float8), 'expired')
$$;

-- Forget keys that do not count any more: of those not looked at for an hour, up to `most`.
create function hotpath.sweep_unique(most integer) returns integer language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    forgotten integer;
begin
    with old as materialized (
        select u.key, u.job, u.until from hotpath.unique_job u where u.seen_at < clock_timestamp() - interval '1 hour'
        order by u.seen_at limit sweep_unique.most for update skip locked
    ),
    seen as materialized (
        select o.key, case when o.until is not null then o.until < now()
            else not exists (select from hotpath.job_get(o.job) j where j.state in ('queued', 'running')) end as over from old o
    ),
    kept as (update hotpath.unique_job u set seen_at = clock_timestamp() from seen s where u.key = s.key and not s.over),
    gone as (delete from hotpath.unique_job u using seen s where u.key = s.key and s.over returning 1)
    select count(*) into forgotten from gone;
    return forgotten;
end $$;

-- ---------------------------------------------------------------- claims under a limit

-- Whether anything of this script is due in the tag. Priority by priority, as in heads.sql.
create function hotpath.due_waits(tag int8, script integer) returns boolean language sql stable set search_path = pg_catalog, pg_temp as $$
    select exists (
            with recursive p as (
                (select q.priority from hotpath.job_queue q where q.tag = due_waits.tag order by q.priority desc limit 1)
                union all
                select (select q.priority from hotpath.job_queue q where q.tag = due_waits.tag and q.priority < p.priority order by q.priority desc limit 1)
                from p where p.priority is not null)
            select from p cross join lateral (
                select from hotpath.job_queue q where q.tag = due_waits.tag and q.priority = p.priority and q.script = due_waits.script
                    and q.scheduled_for <= now() and (q.expires_at is null or q.expires_at > now()) limit 1) due)
        or exists (
            with recursive p as (
                (select b.priority from hotpath.batch b where b.tag = due_waits.tag and b.next < b.n order by b.priority desc limit 1)
                union all
                select (select b.priority from hotpath.batch b where b.tag = due_waits.tag and b.next < b.n and b.priority < p.priority
                    order by b.priority desc limit 1)
                from p where p.priority is not null)
            select from p cross join lateral (
                select from hotpath.batch b where b.tag = due_waits.tag and b.priority = p.priority and b.script = due_waits.script and b.next < b.n
                    and b.scheduled_for <= now() and (b.expires_at is null or b.expires_at > now()) limit 1) due)
$$;

-- Jobs of a scope that each worker holds (leased and not done), and how many of them it runs at a time at most.
create function hotpath.limit_held(scope integer) returns table (worker integer, jobs integer, running integer)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select h.worker, h.jobs, least(h.jobs, w.concurrency) from (
        select l.worker, sum(l.hi - l.lo - coalesce(bit_count(l.done), 0) - case when b.skip is null then 0 else (
            select count(*) from generate_series(l.lo::int4, l.hi - 1) k where get_bit(b.skip, k) = 1 and (l.done is null or get_bit(l.done, k - l.lo) = 0)) end)::integer as jobs
        from hotpath.lease l join hotpath.batch b on b.base = l.batch
        where b.script = any (array(select s.id from hotpath.script s where s.limit_scope = limit_held.scope))
        group by l.worker) h
    left join hotpath.worker w on w.id = h.worker
$$;

-- Jobs of a scope that run at a time, or are about to: places of its limit that are taken.
create function hotpath.limit_used(scope integer) returns integer language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(sum(h.running), 0)::integer from hotpath.limit_held(limit_used.scope) h
$$;

-- Note of starts that a rate counts when the last of them was at the latest: now, if the lease has gone meanwhile.
create function hotpath.limit_settle(scope integer) returns void language sql volatile set search_path = pg_catalog, pg_temp as $$
    update hotpath.limit_start g set begun = least(clock_timestamp(),
        (select coalesce(w.stopped_at, w.lease_until) from hotpath.worker w where w.id = g.worker))
    where g.scope = limit_settle.scope and g.begun is null and not exists (select from hotpath.lease l where l.id = g.lease)
$$;

-- All jobs of these leases have begun. Nothing is wrong if nobody says so: then it is known when the lease ends.
create function hotpath.limit_begun(leases int8[]) returns void language sql volatile set search_path = pg_catalog, pg_temp as $$
    update hotpath.limit_start g set begun = clock_timestamp() where g.lease = any (limit_begun.leases) and g.begun is null
$$;

create type hotpath.limit_place as (
    room integer,      -- jobs
    wait float8,       -- seconds until it is worth asking again, if there is no room
    most integer);     -- what bounds it, for all workers together

-- How many more jobs of a limit without a key this worker may have now, and else in how many seconds it is worth asking again. A worker that runs no
-- more at a time than it has places may have as many as it likes: the others wait within it.
create function hotpath.limit_room(scope integer, limits jsonb, worker integer) returns hotpath.limit_place
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    place hotpath.limit_place := (2147483647, null, 2147483647);
    most constant integer := (limits ->> 'concurrency')::integer;
    rate constant integer := (limits ->> 'rate')::integer;
    since constant timestamptz := clock_timestamp() - ((limits ->> 'seconds')::float8 + 0.01) * interval '1 second';  -- clocks of workers differ by a little
    free integer;
    own integer;
    started integer;
    oldest timestamptz;
begin
    if most is not null then
        select most - coalesce(sum(h.running), 0), coalesce(max(h.running) filter (where h.worker = limit_room.worker), 0)
            into free, own from hotpath.limit_held(limit_room.scope) h;
        if own + free < coalesce((select w.concurrency from hotpath.worker w where w.id = limit_room.worker), 2147483647) then
            place := (greatest(free, 0), 0.05, most);  -- there may be more than there were to be: the limit was another
        end if;
    end if;
    if rate is not null and place.room > 0 then
        perform hotpath.limit_settle(limit_room.scope);
        select coalesce(sum(g.n), 0), min(g.begun) into started, oldest from hotpath.limit_start g
            where g.scope = limit_room.scope and (g.begun is null or g.begun > since);
        if rate - started < place.room then
            place := (greatest(rate - started, 0), least(greatest(coalesce(extract(epoch from oldest - since)::float8, 0.05), 0.002), 1.0), rate);
        end if;
    end if;
    return place;
end $$;

-- Live workers that may run jobs of this script in this tag, at least 1; of those that run any script, not the ones that are busy with others.
create function hotpath.limit_team(script integer, tag int8) returns integer language sql stable set search_path = pg_catalog, pg_temp as $$
    select greatest(count(*), 1)::integer from hotpath.worker w
    where w.stopped_at is null and w.lease_until > now() and (w.script = limit_team.script or w.script is null)
        and (w.patterns is not null or limit_team.tag = any (w.tags))
        and (w.script is not null or coalesce(w.under_way, 0) = 0 or exists (
            select from hotpath.lease l join hotpath.batch b on b.base = l.batch where l.worker = w.id and b.script = limit_team.script))
$$;

-- What comes of hotpath.claim_limited: the columns of claim.sql, and two more.
create type hotpath.claimed as (accepted int8[], base uuid, lo integer, hi integer, ids uuid[], attempts int2[], skip bytea, args bytea,
    priority int2, priorities int2[], until timestamptz, scheduled timestamptz[], saw boolean, clock int8, timeouts integer[], alone boolean,
    blocked float8,   -- seconds until it is worth asking again; not null: jobs are due that the limit holds back
    rated boolean);   -- there is a rate: `limit_begun` wants to know when all jobs of this lease have begun

-- A claim of a script whose row says `claim_apart`: what claim.sql does, of no more jobs than its limit has room for. Who claims under a limit has
-- its scope's lock from before he counts until his lease is there for all to see: what runs is leased, and no counter can be wrong.
-- A statement and a transaction of its own, after the flush of what has ended. The parameters are those of claim.sql.
create function hotpath.claim_limited(worker integer, want integer, tag int8, script integer, known int2[], since timestamptz[], since_ids uuid[],
    upper int2[], lower int2[], base uuid, lease int8, before_priority int2, before_at timestamptz, before_id uuid) returns hotpath.claimed
language plpgsql volatile set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off
    set jit = off as $$
#variable_conflict use_column
declare
    c hotpath.claimed;
    rules record;
    room hotpath.limit_place;
    take integer := greatest(claim_limited.want, 0);
    at_tag constant int8 := claim_limited.tag;
    of_script constant integer := claim_limited.script;
begin
    -- A claim alone need not wait for the disk: if the server forgets it, the lease is gone too and the job runs again.
    perform set_config('synchronous_commit', 'off', true);
    select s.limits, s.limit_scope as scope into rules from hotpath.script s where s.id = of_script;
    c.accepted := '{}';
    room := (2147483647, null, 2147483647);
    if rules.limits is not null and take > 0 then
        if current_setting('transaction_isolation') <> 'read committed' then
            raise exception 'a claim under a limit needs transactions that are read committed: it has to see what was claimed while it waited for the lock';
        end if;
        if not pg_try_advisory_xact_lock(7310870, rules.scope) then
            -- Who would be blocked anyway, and asks often, does not queue for the lock.
            if not rules.limits ? 'key' then
                room := hotpath.limit_room(rules.scope, rules.limits, claim_limited.worker);
            end if;
            if room.room > 0 then
                perform pg_advisory_xact_lock(7310870, rules.scope);
            end if;
        end if;
        if room.room > 0 then
            select s.limits into rules.limits from hotpath.script s where s.id = of_script;  -- as it is now
            if rules.limits ? 'key' then
                c := hotpath.claim_keyed(claim_limited.worker, take, at_tag, of_script, rules.scope, rules.limits, claim_limited.base, claim_limited.lease,
                    claim_limited.before_priority, claim_limited.before_at, claim_limited.before_id);
                room := (0, 0.05, 0);
            elsif rules.limits is not null then
                room := hotpath.limit_room(rules.scope, rules.limits, claim_limited.worker);
            end if;
        end if;
        if room.room < 2147483647 then
            -- What there is is shared: one worker that takes all of it would have others wait that could run it at the same time.
            take := least(take, room.room);
            if take > 1 then
                take := least(take, ceil(room.most / hotpath.limit_team(of_script, at_tag)::float8));
            end if;
        end if;
    end if;
    c.rated := coalesce(rules.limits ? 'rate', false);
    if take > 0 then
        -- claim.sql, of `take` jobs, of which none has expired.
        with
        -- The best sealed batch, looked at and not yet locked.
        peek as materialized (
            select h.* from (
                (select p.priority, t.scheduled_for, t.base, t.next from unnest(claim_limited.known) as p (priority)
                 cross join lateral (select scheduled_for, base, next from hotpath.batch where tag = at_tag and script = of_script and next < n and priority = p.priority
                     and scheduled_for <= now() and (expires_at is null or expires_at > now()) order by scheduled_for, base limit 1) t
                 limit 1)
                union all
                (select t.* from unnest(claim_limited.upper, claim_limited.lower) as g (hi, lo)
                 cross join lateral (select priority, scheduled_for, base, next from hotpath.batch where tag = at_tag and script = of_script and next < n
                     and priority <= g.hi and priority >= g.lo and scheduled_for <= now() and (expires_at is null or expires_at > now())
                     order by priority desc, scheduled_for, base limit 1) t
                 limit 1)) h
            where take > 0 order by priority desc, scheduled_for, base limit 1
        ),
        -- Where loose jobs have to stop: at the batch's next job (those before it may have come back, as loose ones), or at the caller's bound.
        stop as materialized (
            select s.* from (select priority, scheduled_for, hotpath.job_id(base, next::int4) as head, base from peek
                union all select claim_limited.before_priority, claim_limited.before_at, claim_limited.before_id, null where claim_limited.before_priority is not null) s
            order by priority desc, scheduled_for, head limit 1
        ),
        -- The highest priority that nobody knew of.
        news as materialized (
            select t.priority from unnest(claim_limited.upper, claim_limited.lower) as g (hi, lo)
            cross join lateral (select priority from hotpath.job_queue where tag = at_tag and script = of_script and priority <= g.hi and priority >= g.lo
                and scheduled_for <= now() order by priority desc limit 1) t
            where take > 0 limit 1
        ),
        -- Positions to take loose jobs from, in order: the known priorities above the stop and the news, then the one where they are.
        span as materialized (
            select k.priority, k.since, k.since_id, 'infinity'::timestamptz as until, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid as until_id
            from unnest(claim_limited.known, claim_limited.since, claim_limited.since_ids) as k (priority, since, since_id)
            where k.priority > coalesce((select priority from stop), -32769) and k.priority > coalesce((select priority from news), -32769)
            union all
            select m.priority, coalesce(k.since, '-infinity'), coalesce(k.since_id, '00000000-0000-0000-0000-000000000000'),
                case when m.priority = m.stop then m.scheduled_for else 'infinity' end,
                case when m.priority = m.stop then m.head else 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid end
            from (select greatest(p.priority, n.priority) as priority, p.priority as stop, p.scheduled_for, p.head
                  from (select) one left join stop p on true left join news n on true) m
            left join unnest(claim_limited.known, claim_limited.since, claim_limited.since_ids) as k (priority, since, since_id) on k.priority = m.priority
            where m.priority is not null
        ),
        q as materialized (
            select t.place, t.suspect from span
            cross join lateral (select ctid as place, suspect from hotpath.job_queue j
                where j.tag = at_tag and j.script = of_script and j.priority = span.priority and j.scheduled_for <= now()
                  and (j.expires_at is null or j.expires_at > now()) and (j.scheduled_for, j.id) >= (span.since, span.since_id) and (j.scheduled_for, j.id) < (span.until, span.until_id)
                order by j.scheduled_for, j.id limit take for update skip locked) t
            where take > 0 limit take
        ),
        d as materialized (
            -- Suspects (one of them killed its worker, nobody knows which) go in ever smaller company, at last alone (I7).
            delete from hotpath.job_queue where ctid = any (array(select place from q limit (
                select case when max(suspect) >= 3 then 1 when max(suspect) > 0 then greatest(take >> (3 * max(suspect)), 1) end from q)))
            returning id, script, priority, scheduled_for, attempt, crashes, suspect, timeout_ms, args
        ),
        made as (
            insert into hotpath.batch (base, tag, script, priority, scheduled_for, n, next, open, ids, scheduled, priorities, attempts, crashes, suspects, timeouts, args)
            select claim_limited.base, at_tag, of_script, max(s.priority), min(s.scheduled_for), count(*), count(*), count(*), array_agg(s.id), array_agg(s.scheduled_for),
                case when min(s.priority) < max(s.priority) then array_agg(s.priority) end, case when max(s.attempt) > 0 then array_agg(s.attempt) end,
                case when max(s.crashes) > 0 then array_agg(s.crashes) end, case when max(s.suspect) > 0 then array_agg(s.suspect) end,
                case when max(s.timeout_ms) > 0 then array_agg(s.timeout_ms) end, array_agg(s.args)
            from (select * from d order by priority desc, scheduled_for, id) s having count(*) > 0
            returning base, 0 as lo, n::int4 as hi, ids, scheduled, priority, priorities, attempts, skip, suspects is not null as alone, timeouts, args
        ),
        -- No loose job comes before the batch: take a slice of it, as it is now that it is locked.
        slice as materialized (
            select base, next, least(n - next, take)::int2 as k from hotpath.batch
            where base = (select base from stop) and next < n and not exists (select from q) for update skip locked
        ),
        taken as (
            update hotpath.batch t set next = t.next + s.k from slice s where t.base = s.base
            returning t.base, s.next::int4 as lo, (s.next + s.k)::int4 as hi, t.ids, null::timestamptz[], t.priority, null::int2[], t.attempts, t.skip,
                false, t.timeouts, t.args
        ),
        x as (select * from made union all select * from taken),
        leased as (insert into hotpath.lease (id, worker, batch, lo, hi) select claim_limited.lease, claim_limited.worker, x.base, x.lo, x.hi from x)
        select x.base, x.lo, x.hi, x.ids, x.attempts[x.lo + 1:x.hi], x.skip, convert_to(array_to_json(x.args[x.lo + 1:x.hi])::text, 'UTF8'), x.priority, x.priorities,
            x.scheduled[x.hi], case when x.priorities is not null then x.scheduled end, x.timeouts[x.lo + 1:x.hi], x.alone
        into c.base, c.lo, c.hi, c.ids, c.attempts, c.skip, c.args, c.priority, c.priorities, c.until, c.scheduled, c.timeouts, c.alone
        from x;
        if c.base is not null and c.rated then
            insert into hotpath.limit_start (scope, key, lease, worker, n) values (rules.scope, 0, claim_limited.lease, claim_limited.worker, c.hi - c.lo)
                on conflict (lease, key) do update set n = limit_start.n + excluded.n;  -- the same claim, sent again
            delete from hotpath.limit_start g where g.scope = rules.scope
                and g.begun < clock_timestamp() - ((rules.limits ->> 'seconds')::float8 + 0.01) * interval '1 second';
        end if;
    end if;
    if c.base is null then
        c.saw := hotpath.due_waits(at_tag, of_script);
        if c.saw and room.room = 0 then
            c.blocked := room.wait;
        end if;
    end if;
    c.clock := (extract(epoch from clock_timestamp()) * 1000000)::int8;
    return c;
end $$;

-- The jobs of up to `most` sealed batches of a script become loose ones, each with its key: they were put in before the limit had one.
create function hotpath.unseal(tag int8, script integer, template text, most integer) returns void language sql volatile set search_path = pg_catalog, pg_temp as $$
    with u as materialized (
        select b.* from hotpath.batch b where b.tag = unseal.tag and b.script = unseal.script and b.next < b.n and b.scheduled_for <= now()
        order by b.priority desc, b.scheduled_for, b.base limit unseal.most for update skip locked
    ),
    loose as (
        insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, timeout_ms, args, limit_key, expires_at)
        select hotpath.job_id(u.base, k), u.scheduled_for, u.tag, u.script, u.priority, u.timeouts[k + 1], u.args[k + 1],
            hotpath.limit_key_of(unseal.template, hotpath.job_id(u.base, k), u.args[k + 1]), u.expires_at
        from u cross join lateral generate_series(u.next::int4, u.n - 1) k where u.skip is null or get_bit(u.skip, k) = 0
    ),
    emptied as (delete from hotpath.batch t using u where t.base = u.base and u.open = u.n - u.next)
    update hotpath.batch t set next = u.n, open = u.open - (u.n - u.next) from u where t.base = u.base and u.open > u.n - u.next
$$;

-- The claim under a limit with a key, for who has the scope's lock. In order, save jobs whose key has no room: those are passed over. It looks at
-- the head of the queue; if that is full of such, at the first jobs of each key, of a thousand keys at most, others each time.
create function hotpath.claim_keyed(worker integer, want integer, tag int8, script integer, scope integer, limits jsonb, base uuid, lease int8,
    before_priority int2, before_at timestamptz, before_id uuid) returns hotpath.claimed
language plpgsql volatile set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off
    set jit = off as $$
#variable_conflict use_column
declare
    c hotpath.claimed;
    template constant text := limits ->> 'key';
    own_places constant integer := (select w.concurrency from hotpath.worker w where w.id = claim_keyed.worker);
    most constant integer := coalesce((limits ->> 'concurrency')::integer, 2147483647);
    all_room constant integer := case when most >= own_places then 2147483647 else most end;  -- of a key that nobody has anything of
    rate constant integer := coalesce((limits ->> 'rate')::integer, 2147483647);
    since constant timestamptz := clock_timestamp() - ((limits ->> 'seconds')::float8 + 0.01) * interval '1 second';
    walk constant integer := 4 * claim_keyed.want + 100;
    from_key constant int8 := (hashint8extended(claim_keyed.lease, 0));
    at_tag constant int8 := claim_keyed.tag;
    of_script constant integer := claim_keyed.script;
begin
    c.accepted := '{}';
    c.rated := limits ? 'rate';
    if c.rated then
        perform hotpath.limit_settle(claim_keyed.scope);
        delete from hotpath.limit_start g where g.scope = claim_keyed.scope and g.begun < since;
    end if;
    perform hotpath.unseal(at_tag, of_script, template, 4);
    with recursive held as materialized (
        select k.key, l.worker, count(*) as n
        from hotpath.lease l join hotpath.batch b on b.base = l.batch
        cross join lateral (
            select coalesce(b.keys[p + 1], hotpath.limit_key_of(template, coalesce(b.ids[p + 1], hotpath.job_id(b.base, p)), b.args[p + 1])) as key
            from generate_series(l.lo::int4, l.hi - 1) p
            where (b.skip is null or get_bit(b.skip, p) = 0) and (l.done is null or get_bit(l.done, p - l.lo) = 0)) k
        where b.script = any (array(select s.id from hotpath.script s where s.limit_scope = claim_keyed.scope))
        group by k.key, l.worker
    ),
    -- Of a key, places that are taken; and whether this worker runs no more at a time than there are for it.
    used as materialized (
        select h.key, sum(least(h.n, w.concurrency)) as n, coalesce(max(least(h.n, w.concurrency)) filter (where h.worker = claim_keyed.worker), 0) as own
        from held h left join hotpath.worker w on w.id = h.worker group by h.key
    ),
    started as materialized (
        select g.key, sum(g.n) as n from hotpath.limit_start g where c.rated and g.scope = claim_keyed.scope group by g.key
    ),
    busy as materialized (
        select key, least(case when most - coalesce(u.n, 0) + coalesce(u.own, 0) >= own_places then 2147483647 else most - u.n end,
            rate - coalesce(s.n, 0))::int8 as room
        from used u full join started s using (key)
    ),
    p as (
        (select q.priority from hotpath.job_queue q where q.tag = at_tag order by q.priority desc limit 1)
        union all
        select (select q.priority from hotpath.job_queue q where q.tag = at_tag and q.priority < p.priority order by q.priority desc limit 1)
        from p where p.priority is not null
    ),
    ranks as materialized (select p.priority from p where p.priority >= coalesce(claim_keyed.before_priority, -32768)),
    head as materialized (
        select j.* from ranks cross join lateral (
            select q.id, q.priority, q.scheduled_for, coalesce(q.limit_key, hotpath.limit_key_of(template, q.id, q.args)) as key
            from hotpath.job_queue q
            where q.tag = at_tag and q.priority = ranks.priority and q.script = of_script and q.scheduled_for <= now()
                and (q.expires_at is null or q.expires_at > now())
            order by q.scheduled_for, q.id limit walk) j
        limit walk
    ),
    enough as materialized (
        select coalesce(sum(least(n, room)), 0) >= claim_keyed.want or (select count(*) from head) < walk as yes
        from (select count(*) as n, greatest(coalesce(min(b.room), least(all_room, rate)), 0) as room from head h left join busy b on b.key = h.key group by h.key) k
    ),
    above as (
        (select q.limit_key as key from hotpath.job_queue q where q.script = of_script and q.tag = at_tag and q.limit_key >= from_key
            and not (select yes from enough) order by q.limit_key limit 1)
        union all
        select (select q.limit_key from hotpath.job_queue q where q.script = of_script and q.tag = at_tag and q.limit_key > a.key order by q.limit_key limit 1)
        from above a where a.key is not null
    ),
    below as (
        (select q.limit_key as key from hotpath.job_queue q where q.script = of_script and q.tag = at_tag and q.limit_key < from_key
            and not (select yes from enough) order by q.limit_key limit 1)
        union all
        select (select q.limit_key from hotpath.job_queue q where q.script = of_script and q.tag = at_tag and q.limit_key > a.key and q.limit_key < from_key
            order by q.limit_key limit 1)
        from below a where a.key is not null
    ),
    keys as materialized (select * from ((select key from above limit 1000) union all (select key from below limit 1000)) k where key is not null limit 1000),
    deep as (
        select j.* from keys k left join busy b on b.key = k.key cross join ranks cross join lateral (
            select q.id, q.priority, q.scheduled_for, q.limit_key as key from hotpath.job_queue q
            where q.script = of_script and q.tag = at_tag and q.limit_key = k.key and q.priority = ranks.priority and q.scheduled_for <= now()
                and (q.expires_at is null or q.expires_at > now())
            order by q.scheduled_for, q.id limit least(greatest(coalesce(b.room, least(all_room, rate)), 0), claim_keyed.want)) j
    ),
    fit as (
        select h.*, row_number() over (partition by h.key order by h.priority desc, h.scheduled_for, h.id) as nth
        from (select * from head union select * from deep) h
        where claim_keyed.before_priority is null or h.priority > claim_keyed.before_priority
            or (h.priority = claim_keyed.before_priority and (h.scheduled_for, h.id) < (claim_keyed.before_at, claim_keyed.before_id))
    ),
    -- Keys are shared among workers, as places are: who took jobs of all keys would run them one after the other while others wait. The keys that it
    -- has jobs of already stay its own; of others it gets as many as make up its share of those that it may have, among workers that have none yet.
    free as materialized (
        select f.*, exists (select from held h where h.worker = claim_keyed.worker and h.key = f.key) as own
        from fit f left join busy b on b.key = f.key where f.nth <= coalesce(b.room, least(all_room, rate))
    ),
    ranked as (
        select f.key, f.own, row_number() over (partition by f.own order by max(f.priority) desc, min(f.scheduled_for), min(f.id::text)) as n
        from free f group by f.key, f.own
    ),
    share as materialized (
        select ceil((select count(*) from (select h.key from held h where h.worker = claim_keyed.worker union select f.key from free f) k) / greatest(
            hotpath.limit_team(of_script, at_tag) - (select count(distinct h.worker) from held h where h.worker <> claim_keyed.worker), 1)::float8)
            - (select count(*) from held h where h.worker = claim_keyed.worker) as more
    ),
    picked as materialized (
        select f.id, f.priority, f.scheduled_for, f.key from free f join ranked r on r.key = f.key
        where r.own or r.n <= (select more from share) order by f.priority desc, f.scheduled_for, f.id limit claim_keyed.want
    ),
    q as materialized (
        select j.id, j.suspect from picked k join hotpath.job_queue j on j.id = k.id order by k.priority desc, k.scheduled_for, k.id for update of j skip locked
    ),
    d as materialized (
        delete from hotpath.job_queue where id = any (array(select id from q limit (
            select case when max(suspect) >= 3 then 1 when max(suspect) > 0 then greatest(claim_keyed.want >> (3 * max(suspect)), 1) end from q)))
        returning id, script, priority, scheduled_for, attempt, crashes, suspect, timeout_ms, args
    ),
    made as (
        insert into hotpath.batch (base, tag, script, priority, scheduled_for, n, next, open, ids, scheduled, priorities, attempts, crashes, suspects, timeouts, keys, args)
        select claim_keyed.base, at_tag, of_script, max(s.priority), min(s.scheduled_for), count(*), count(*), count(*), array_agg(s.id), array_agg(s.scheduled_for),
            case when min(s.priority) < max(s.priority) then array_agg(s.priority) end, case when max(s.attempt) > 0 then array_agg(s.attempt) end,
            case when max(s.crashes) > 0 then array_agg(s.crashes) end, case when max(s.suspect) > 0 then array_agg(s.suspect) end,
            case when max(s.timeout_ms) > 0 then array_agg(s.timeout_ms) end, array_agg(s.key), array_agg(s.args)
        from (select d.*, k.key from d join picked k on k.id = d.id order by d.priority desc, d.scheduled_for, d.id) s having count(*) > 0
        returning base, 0 as lo, n::int4 as hi, ids, scheduled, priority, priorities, attempts, suspects is not null as alone, timeouts, keys, args
    ),
    leased as (insert into hotpath.lease (id, worker, batch, lo, hi) select claim_keyed.lease, claim_keyed.worker, x.base, x.lo, x.hi from made x),
    counted as (
        insert into hotpath.limit_start (scope, key, lease, worker, n)
        select claim_keyed.scope, u.key, claim_keyed.lease, claim_keyed.worker, count(*) from made x cross join lateral unnest(x.keys) as u (key)
        where c.rated group by u.key on conflict (lease, key) do update set n = limit_start.n + excluded.n
    )
    select x.base, x.lo, x.hi, x.ids, x.attempts, convert_to(array_to_json(x.args)::text, 'UTF8'), x.priority, x.priorities, x.scheduled[x.hi],
        case when x.priorities is not null then x.scheduled end, x.timeouts, x.alone
    into c.base, c.lo, c.hi, c.ids, c.attempts, c.args, c.priority, c.priorities, c.until, c.scheduled, c.timeouts, c.alone
    from made x;
    return c;
end $$;

-- ---------------------------------------------------------------- flows: what migration 0005 has, and what a script says of its jobs

-- A step's tag made of its args, and what is wrong with it: one of the two is null.
create function hotpath.fill_step_tag(template text, args json) returns text[] language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return array[hotpath.fill_tag(fill_step_tag.template, fill_step_tag.args::jsonb), null];
exception when sqlstate 'HP002' or sqlstate 'HP003' or data_exception then
    return array[null, sqlerrm];
end $$;

create or replace function hotpath.note_steps(worker integer, clock int8, durable boolean, again boolean, leases int8[], places integer[], runs uuid[],
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
                    s.entry, case when coalesce(u.tag, s.entry ->> 'tag') like '%$%' then hotpath.fill_step_tag(coalesce(u.tag, s.entry ->> 'tag'), u.args)
                        else array[u.tag] end as filled,
                    coalesce(s.tag, tags[u.run]) as own_tag,
                    case when u.priority = 0 then coalesce(s.priority, 0) else u.priority end::int2 as rank
                from rows from (unnest(note_steps.child_of), unnest(note_steps.child_keys), unnest(note_steps.child_ids), unnest(note_steps.child_scripts),
                    unnest(note_steps.child_tags), unnest(note_steps.child_priorities), unnest(note_steps.child_timeouts),
                    json_array_elements(convert_from(note_steps.child_args, 'UTF8')::json))
                    as u (run, key, id, script, tag, priority, timeout_ms, args)
                left join hotpath.script s on s.name = u.script and s.version is not null
                where accepted[u.run]
            ),
            t as materialized (select c.*, case when c.filled[1] is null then c.own_tag else hotpath.tag_id(c.filled[1]) end as tag_key from c),
            -- One that cannot run ends at once: nobody would ever tell of it.
            fresh as (
                insert into hotpath.flow_child (id, run, key, done)
                select distinct on (t.id) t.id, t.parent, t.key, t.script_id is null or t.doomed or t.filled[2] is not null from t order by t.id
                on conflict (id) do nothing returning id, done
            ),
            n as materialized (
                select t.*, f.done as over from t join fresh f on f.id = t.id
            ),
            kept as (
                insert into hotpath.payload (id, args) select n.id, n.args from n where octet_length(n.body) > 8192 and not n.over on conflict do nothing
            ),
            queued as (
                insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, timeout_ms, args, limit_key, expires_at)
                select n.id, now(), n.tag_key, n.script_id, n.rank, n.timeout_ms, case when octet_length(n.body) <= 8192 then n.args end,
                    case when n.entry ? 'key' then hotpath.limit_key_of(n.entry ->> 'key', n.id, n.args) end,
                    now() + (n.entry ->> 'expires')::float8 * interval '1 second'
                from n where not n.over returning tag
            ),
            awaited as (
                insert into hotpath.waiter (job, client, until)
                select n.id, '00000000-0000-0000-0000-000000000000', 'infinity' from n where not n.over on conflict do nothing
            ),
            named as (
                insert into hotpath.tag_seen (id, name)
                select distinct n.tag_key, n.filled[1] from n where n.filled[1] is not null and not exists (select from hotpath.tag t where t.id = n.tag_key)
                    and not exists (select from hotpath.tag_seen t where t.id = n.tag_key)
            ),
            ended as (
                insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state, args, error, parent, step)
                select n.id, now(), n.tag_key, coalesce(n.script_id, owns[n.run]), n.rank, 0, case when n.doomed then 3 else 2 end, n.args,
                    case when n.doomed then hotpath.error_object('JobCanceled', 'canceled before it started', 'canceled')
                        when n.filled[2] is not null then hotpath.error_object('BadArgsError', n.filled[2], 'bad_args')
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

create or replace function hotpath.park_runs(worker integer, leases int8[], places integer[], runs uuid[], wakes int8[], awaited jsonb[]) returns integer
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
                coalesce(o.attempt, 0::int2) as attempt, o.crashes, o.suspect, o.timeout_ms, o.args, o.limit_key,
                l.cancels is not null and get_bit(l.cancels, (o.ord - 1)::integer) = 1 as canceled
            from l join b on b.base = l.batch
            cross join lateral rows from (unnest(b.args[l.lo + 1:l.hi]), unnest(b.ids[l.lo + 1:l.hi]), unnest(b.scheduled[l.lo + 1:l.hi]),
                unnest(b.priorities[l.lo + 1:l.hi]), unnest(b.attempts[l.lo + 1:l.hi]), unnest(b.crashes[l.lo + 1:l.hi]), unnest(b.suspects[l.lo + 1:l.hi]),
                unnest(b.timeouts[l.lo + 1:l.hi]), unnest(b.keys[l.lo + 1:l.hi]))
                with ordinality as o (args, id, scheduled, priority, attempt, crashes, suspect, timeout_ms, limit_key, ord)
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
            insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, attempt, crashes, suspect, timeout_ms, args, limit_key)
            select j.id, case when j.ready then least(j.wake, now()) else j.wake end, j.tag, j.script, j.priority, j.attempt, j.crashes, j.suspect,
                j.timeout_ms, j.args, j.limit_key
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

create or replace function hotpath.run_again(job uuid, key text) returns boolean language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
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
        insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, attempt, suspect, timeout_ms, args, limit_key)
        select g.id, now(), g.tag, g.script, g.priority, g.attempt, case when g.error ->> 'kind' = 'crash' then 3 end, g.timeout_ms, g.args,
            (select hotpath.limit_key_of(s.entry ->> 'key', g.id, g.args) from hotpath.script s where s.id = g.script and s.entry ? 'key')
        from gone g
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

-- ---------------------------------------------------------------- rights
revoke all on hotpath.limit_override, hotpath.limit_start, hotpath.unique_job, hotpath.tag_pause from public;
revoke all on all functions in schema hotpath from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_enqueue') then
        grant execute on function hotpath.enqueue, hotpath.enqueue_once, hotpath.enqueue_each to hotpath_enqueue;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.limit_override, hotpath.limit_start, hotpath.unique_job, hotpath.tag_pause to hotpath_worker;
        grant execute on all functions in schema hotpath to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.limit_override, hotpath.limit_start, hotpath.unique_job, hotpath.tag_pause to hotpath_read;
        grant execute on function hotpath.fill, hotpath.limit_key, hotpath.limit_key_of, hotpath.fill_tag, hotpath.expiry, hotpath.due_waits, hotpath.limit_used, hotpath.limit_held,
            hotpath.expired_error to hotpath_read;
    end if;
end $$;
