-- Who puts in a job that uses no limit, key, debounce or expiry pays what he paid before there were any (decision 0020).

-- ---------------------------------------------------------------- the indexes of rare jobs

-- An index that a row is not in costs its insert a microsecond nevertheless. Jobs that have run before and jobs that end if nobody begins them share
-- one: who has run has no such end. Those that have run are found where `expires_at` is null.
drop index hotpath.job_queue_again;
drop index hotpath.job_queue_expires;
create index job_queue_rare on hotpath.job_queue (expires_at, tag, script) where attempt > 0 or expires_at is not null;

-- ---------------------------------------------------------------- ids

-- As before: UUIDv7 with the sub-millisecond part in rand_a. One expression without a query, which PostgreSQL inlines: 4096ths of a millisecond
-- as 15 hexadecimal digits, the version put in before the last three, and of a random id what comes behind.
create or replace function hotpath.uuid7() returns uuid language sql volatile parallel safe
begin atomic
    select (overlay(lpad(to_hex((extract(epoch from clock_timestamp()) * 1000000)::int8 * 512 / 125), 15, '0') placing '7' from 13 for 0)
        || substr(gen_random_uuid()::text, 20))::uuid;
end;

-- ---------------------------------------------------------------- enqueue

-- Adds one job, in the caller's transaction. Refuses an unknown script (HP001), bad args (HP002), bad values (HP003) and a unique key that another
-- job has (HP006). `unique_key`: in the place of the script's; `unique_while` and `on_conflict` likewise.
create or replace function hotpath.enqueue(script text, args jsonb default '{}', tag text default null, priority integer default 0,
    scheduled_for timestamptz default now(), timeout_ms integer default null, unique_key text default null, unique_while text default null,
    on_conflict text default null) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    script_id integer;
    tag_key int8;
    script_priority int2;
    script_schema jsonb;
    script_entry jsonb;
    problem text;
    new_id constant uuid := hotpath.uuid7();
    body text := enqueue.args::text;
begin
    select s.id, s.tag, s.priority, v.schema, s.entry into script_id, tag_key, script_priority, script_schema, script_entry
        from hotpath.script s join hotpath.script_version v on v.id = s.version where s.name = enqueue.script;
    if not found then
        raise exception using errcode = 'HP001', message = format('script %s is not registered in this database', coalesce(quote_literal(enqueue.script), 'NULL')),
            hint = format('run `hotpath deploy`, or start `hotpath dedicate %s`', coalesce(enqueue.script, 'NAME'));
    end if;
    problem := hotpath.check_args(script_schema, enqueue.args);
    if problem is not null then
        raise exception using errcode = 'HP002', message = problem;
    end if;
    -- Two tests for who puts in a plain job: each expression costs, and in each transaction anew.
    if enqueue.priority is null or enqueue.priority not between -32768 and 32767 or enqueue.scheduled_for is null or not isfinite(enqueue.scheduled_for)
        or enqueue.timeout_ms <= 0 or octet_length(body) > 16777216 then
        if enqueue.priority is null or enqueue.priority not between -32768 and 32767 then
            raise exception using errcode = 'HP003',
                message = format('priority must be an integer from -32768 to 32767, not %s', coalesce(enqueue.priority::text, 'NULL'));
        elsif enqueue.scheduled_for is null or not isfinite(enqueue.scheduled_for) then
            raise exception using errcode = 'HP003', message = format('scheduled_for must be a time, not %s', coalesce(enqueue.scheduled_for::text, 'NULL'));
        elsif enqueue.timeout_ms <= 0 then
            raise exception using errcode = 'HP003', message = format('timeout_ms must be above 0, not %s', enqueue.timeout_ms);
        end if;
        raise exception using errcode = 'HP002', message = format('args are %s bytes as JSON; the limit is 16777216 (16 MiB)', octet_length(body));
    end if;
    if enqueue.tag is not null or octet_length(body) > 8192 or script_entry is not null or enqueue.unique_key is not null then
        if enqueue.tag is not null then
            if enqueue.tag = '' or octet_length(enqueue.tag) > 255 or position('$' in enqueue.tag) > 0 then
                if enqueue.tag = '' or octet_length(enqueue.tag) > 255 then
                    raise exception using errcode = 'HP003', message = 'tag must be 1 to 255 bytes long';
                end if;
                enqueue.tag := hotpath.fill_tag(enqueue.tag, enqueue.args);
            end if;
            tag_key := hotpath.tag_id(enqueue.tag);
            if not exists (select from hotpath.tag t where t.id = tag_key) and not exists (select from hotpath.tag_seen t where t.id = tag_key) then
                insert into hotpath.tag_seen (id, name) values (tag_key, enqueue.tag);
            end if;
        end if;
        if octet_length(body) > 8192 or script_entry is not null or enqueue.unique_key is not null then
            if script_entry is not null or enqueue.unique_key is not null then
                return hotpath.enqueue_apart(new_id, script_id, script_entry, enqueue.args, body, case when enqueue.tag is null then script_entry ->> 'tag' end,
                    tag_key, case when enqueue.priority = 0 then script_priority else enqueue.priority end::int2, enqueue.scheduled_for, enqueue.timeout_ms,
                    enqueue.unique_key, enqueue.unique_while, enqueue.on_conflict);
            end if;
            insert into hotpath.payload (id, args) values (new_id, body::json);
            body := null;
        end if;
    end if;
    insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, timeout_ms, args)
        values (new_id, enqueue.scheduled_for, tag_key, script_id, case when enqueue.priority = 0 then script_priority else enqueue.priority end,
            enqueue.timeout_ms, body::json);
    -- At most one NOTIFY a transaction (PostgreSQL folds equal ones), none when nobody sleeps on the tag.
    if enqueue.scheduled_for <= now() and exists (select from hotpath.doze d where d.tag = tag_key and d.until > now()) then
        perform pg_notify('hotpath', tag_key::text);
    end if;
    return new_id;
end $$;

-- What `enqueue` does, with a job of a script that says something of its jobs as they are put in (`entry`), or with one that has a unique key; all of
-- it has been checked. `own_tag`: the text that its tag is made of, null: the tag is `tag`. Returns the job, or the one that stands for it.
create function hotpath.enqueue_apart(new_id uuid, script integer, entry jsonb, args jsonb, body text, own_tag text, tag int8, priority int2,
    scheduled_for timestamptz, timeout_ms integer, unique_key text, unique_while text, on_conflict text) returns uuid
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    tag_key int8 := enqueue_apart.tag;
    tag_named text;
    due timestamptz := enqueue_apart.scheduled_for;
    expires timestamptz;
    key_hash int8;
    earlier uuid;
begin
    if enqueue_apart.own_tag is not null then
        tag_named := hotpath.fill_tag(enqueue_apart.own_tag, enqueue_apart.args);
        tag_key := hotpath.tag_id(tag_named);
        perform hotpath.see_tag(tag_key, tag_named);
    end if;
    if entry ? 'key' then
        key_hash := hotpath.limit_key(entry ->> 'key', enqueue_apart.args);
    end if;
    if enqueue_apart.unique_key is not null or entry ? 'unique' then
        earlier := hotpath.take_unique(enqueue_apart.script, entry -> 'unique', enqueue_apart.unique_key, enqueue_apart.unique_while, enqueue_apart.on_conflict,
            enqueue_apart.args, enqueue_apart.new_id);
    elsif entry ? 'debounce' then
        select d.earlier, d.due into earlier, due from hotpath.debounce(
            sha256(convert_to(enqueue_apart.script || ':' || hotpath.fill(coalesce(entry -> 'debounce' ->> 'key', ''), enqueue_apart.args, 'the key of debounce'), 'UTF8')),
            enqueue_apart.new_id, (entry -> 'debounce' ->> 'seconds')::float8, (entry -> 'debounce' ->> 'longest')::float8, due, tag_key, enqueue_apart.script,
            enqueue_apart.priority, enqueue_apart.timeout_ms, enqueue_apart.body, key_hash) d;
    end if;
    if earlier is not null then
        return earlier;
    end if;
    if entry ? 'expires' then
        expires := due + (entry ->> 'expires')::float8 * interval '1 second';
    end if;
    if octet_length(enqueue_apart.body) > 8192 then
        insert into hotpath.payload (id, args) values (enqueue_apart.new_id, enqueue_apart.body::json);
    end if;
    insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, timeout_ms, args, limit_key, expires_at)
        values (enqueue_apart.new_id, due, tag_key, enqueue_apart.script, enqueue_apart.priority, enqueue_apart.timeout_ms,
            case when octet_length(enqueue_apart.body) > 8192 then null else enqueue_apart.body::json end, key_hash, expires);
    if due <= now() and exists (select from hotpath.doze d where d.tag = tag_key and d.until > now()) then
        perform pg_notify('hotpath', tag_key::text);
    end if;
    return enqueue_apart.new_id;
end $$;

-- ---------------------------------------------------------------- rights
revoke all on function hotpath.enqueue_apart from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant execute on function hotpath.enqueue_apart to hotpath_worker;
    end if;
end $$;
