-- Tables, indexes and small functions: three places for a job (waiting, leased, done) and what surrounds them.
-- docs/data-model.md tells the reasons; DESIGN section 4 holds the measurements.

create table hotpath.meta (
    only_row boolean primary key default true check (only_row),
    version integer not null,          -- number of the last migration applied
    oldest_program integer not null,   -- programs below this level are refused
    created_at timestamptz not null default now()
);
insert into hotpath.meta (version, oldest_program) values (0, 1);

-- ---------------------------------------------------------------- identifiers

-- UUIDv7 with the sub-millisecond part in rand_a (as PostgreSQL 18's uuidv7()), so that ids of one transaction sort as they were made.
create function hotpath.uuid7() returns uuid language sql volatile parallel safe
begin atomic
    select encode(overlay(uuid_send(gen_random_uuid()) placing int8send(((t / 1000) << 16) | 28672 | ((t % 1000) * 4096 / 1000)) from 1 for 8), 'hex')::uuid
    from (select (extract(epoch from clock_timestamp()) * 1000000)::int8 as t) c;
end;

-- When an id of ours was made, to the millisecond.
create function hotpath.uuid_time(id uuid) returns timestamptz language sql immutable strict parallel safe
begin atomic
    select to_timestamp((('x' || encode(substring(uuid_send(id) from 1 for 6), 'hex'))::bit(48)::int8) / 1000.0);
end;

-- Id of the k-th job (from 0) of a sealed batch: the last 16 bits are the ordinal.
create function hotpath.job_id(base uuid, k integer) returns uuid language sql immutable strict parallel safe
begin atomic
    select encode(overlay(uuid_send(base) placing int2send(k::int2) from 15 for 2), 'hex')::uuid;
end;

-- The batch a sealed job's id points to.
create function hotpath.batch_of(id uuid) returns uuid language sql immutable strict parallel safe
begin atomic
    select encode(overlay(uuid_send(id) placing '\x0000'::bytea from 15 for 2), 'hex')::uuid;
end;

create function hotpath.ordinal_of(id uuid) returns integer language sql immutable strict parallel safe
begin atomic
    select get_byte(uuid_send(id), 14) * 256 + get_byte(uuid_send(id), 15);
end;

-- A tag's key is a hash of its name: nobody has to insert a row, and so wait for another's transaction, to use a new tag.
create function hotpath.tag_id(name text) returns int8 language sql immutable strict parallel safe
begin atomic
    select ('x' || encode(substring(sha256(convert_to(name, 'UTF8')) from 1 for 8), 'hex'))::bit(64)::int8;
end;

-- ---------------------------------------------------------------- names

create table hotpath.tag (id int8 primary key, name text not null unique);
-- Names of tags first seen inside somebody's own transaction: no unique key, so no waiting; folded into `tag` later.
create table hotpath.tag_seen (id int8 not null, name text not null);
create index tag_seen_id on hotpath.tag_seen (id);

create table hotpath.script (
    id integer generated always as identity primary key,
    name text not null unique,
    version integer,                   -- the version that new jobs are checked against
    tag int8 not null,                 -- default tag of its jobs
    priority int2 not null default 0,
    created_at timestamptz not null default now()
);

create table hotpath.script_version (
    id integer generated always as identity primary key,
    script integer not null references hotpath.script,
    hash text not null,
    is_async boolean not null,
    schema jsonb not null,
    settings jsonb not null,
    summary text not null default '',
    created_at timestamptz not null default now(),
    unique (script, hash)
);
alter table hotpath.script add foreign key (version) references hotpath.script_version;

-- ---------------------------------------------------------------- jobs that wait

create table hotpath.job_queue (
    id uuid not null primary key,
    scheduled_for timestamptz not null,
    tag int8 not null,
    script integer not null,
    priority int2 not null,
    attempt int2 not null default 0,   -- runs that ended so far
    crashes int2,                      -- null is zero: almost every row
    suspect int2,
    args json                          -- null: more than 8 KiB, kept in `payload`
);
create index job_queue_order on hotpath.job_queue (tag, priority desc, scheduled_for, id);

-- Args over 8 KiB, stored once and referred to from wherever the job is.
create table hotpath.payload (id uuid not null primary key, args json not null);

create table hotpath.batch (
    base uuid not null primary key,
    scheduled_for timestamptz not null,
    tag int8 not null,
    script integer not null,
    priority int2 not null,
    n int2 not null,                   -- jobs in it
    next int2 not null default 0,      -- jobs [0, next) are taken
    open int2 not null,                -- jobs that wait or are leased; the row goes when it reaches 0
    fmt int2 not null default 1,       -- layout of the arrays below
    skip bytea,                        -- bit k: job k was canceled while it waited
    ids uuid[],                        -- null when sealed: ids are base + ordinal
    scheduled timestamptz[],           -- null when all are scheduled_for
    priorities int2[],                 -- null when all are priority
    attempts int2[],                   -- null when all are 0
    crashes int2[],
    suspects int2[],
    args json[] not null
);
create index batch_order on hotpath.batch (tag, priority desc, scheduled_for, base) where next < n;
-- Batches made by claims live only while they are leased: few, so a look-up by a loose job's id may scan them.
create index batch_claimed on hotpath.batch (base) where ids is not null;

-- ---------------------------------------------------------------- jobs that run

create table hotpath.worker (
    id integer generated always as identity primary key,
    name text not null unique,
    worker_group text,
    script integer,
    version integer,
    tags int8[] not null,
    host text not null,
    pid integer not null,
    concurrency integer not null,
    started_at timestamptz not null default now(),
    last_ping timestamptz not null default now(),
    lease_until timestamptz not null,  -- by the database's clock; past it, its leases may be taken back
    stopped_at timestamptz,
    jobs int8 not null default 0
) with (fillfactor = 50);
create index worker_alive on hotpath.worker (id) where stopped_at is null;

create table hotpath.lease (
    id int8 not null primary key,      -- random, new at every claim: the fencing token
    claimed_at timestamptz not null default now(),
    batch uuid not null,
    worker integer not null,
    lo int2 not null,
    hi int2 not null,
    done bytea                         -- bit k - lo: job k has an accepted outcome; null is none
);
create index lease_worker on hotpath.lease (worker);
create index lease_batch on hotpath.lease (batch);

-- Workers asleep on a tag: an enqueue sends a NOTIFY only when it finds one here.
create table hotpath.doze (worker integer not null, tag int8 not null, until timestamptz not null, primary key (tag, worker));
-- Somebody waits for this job's end: the flush that ends it sends a NOTIFY.
create table hotpath.waiter (job uuid not null, client uuid not null, until timestamptz not null, primary key (job, client));

-- ---------------------------------------------------------------- jobs that are done: append-only, partitioned by the flush's now()

create table hotpath.job_done (
    id uuid not null,
    done_at timestamptz not null default now(),
    started_at timestamptz,
    duration_us int8,
    scheduled_for timestamptz not null,
    tag int8 not null,
    script integer not null,
    worker integer,
    priority int2 not null,
    attempt int2 not null,
    state int2 not null,               -- 1 success, 2 failure, 3 canceled
    args json,
    result json,
    error json,
    primary key (id, done_at)
) partition by range (done_at);
-- Failures are rare and often looked for; successes pay nothing for this index.
create index job_done_failed on hotpath.job_done (id) where state <> 1;

create table hotpath.job_attempt (     -- attempts before the one that job_done holds
    id uuid not null,
    done_at timestamptz not null default now(),
    started_at timestamptz,
    duration_us int8,
    worker integer,
    attempt int2 not null,
    state int2 not null,
    error json,
    primary key (id, attempt, done_at)
) partition by range (done_at);

create table hotpath.job_log (
    id uuid not null,
    done_at timestamptz not null default now(),
    seq integer not null default 0,
    attempt int2 not null,
    text text not null,
    primary key (id, attempt, seq, done_at)
) partition by range (done_at);

-- ---------------------------------------------------------------- storage settings

alter table hotpath.job_queue set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_analyze_scale_factor = 0.5);
alter table hotpath.batch set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.5);
alter table hotpath.lease set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
alter table hotpath.doze set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);
alter table hotpath.waiter set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- Ids and times hardly compress: trying costs more than the bytes (0.54 ms against 0.07 ms for a batch of 500).
alter table hotpath.batch alter column ids set storage external, alter column scheduled set storage external;
-- lz4 is not in every build of PostgreSQL 14 and later. Without it args of batches, which live for seconds, stay as they are.
do $$ begin
    alter table hotpath.batch alter column args set compression lz4;
    alter table hotpath.payload alter column args set compression lz4;
    alter table hotpath.job_done alter column args set compression lz4, alter column result set compression lz4, alter column error set compression lz4;
    alter table hotpath.job_log alter column text set compression lz4;
exception when feature_not_supported then
    alter table hotpath.batch alter column args set storage external;
end $$;

-- ---------------------------------------------------------------- partitions

-- Makes the daily partitions of job_done, job_attempt and job_log from today to `days` ahead (UTC), stand-alone first and then
-- attached: ATTACH needs only SHARE UPDATE EXCLUSIVE, where CREATE ... PARTITION OF would wait behind every open reader.
-- With the owner's rights: a worker's role may not create tables, and has to have one for tomorrow's results.
create function hotpath.make_partitions(days integer) returns integer language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    parent text;
    day date;
    part text;
    made integer := 0;
begin
    perform pg_advisory_xact_lock(7310868735401);
    foreach parent in array array['job_done', 'job_attempt', 'job_log'] loop
        for i in 0 .. make_partitions.days loop
            day := (now() at time zone 'UTC')::date + i;
            part := parent || to_char(day, '_YYYYMMDD');
            if to_regclass('hotpath.' || part) is null then
                execute format('create table hotpath.%I (like hotpath.%I including defaults including constraints including storage including compression,
                    constraint %I check (done_at >= %L and done_at < %L)) with (autovacuum_vacuum_insert_scale_factor = 0.5)',
                    part, parent, part || '_range', day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
                execute format('alter table hotpath.%I attach partition hotpath.%I for values from (%L) to (%L)',
                    parent, part, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
                execute format('alter table hotpath.%I drop constraint %I', part, part || '_range');
                made := made + 1;
            end if;
        end loop;
    end loop;
    return made;
end $$;
select hotpath.make_partitions(7);

-- ---------------------------------------------------------------- people's view of a job

create function hotpath.tag_name(id int8) returns text language sql stable parallel safe
begin atomic
    select coalesce((select t.name from hotpath.tag t where t.id = tag_name.id), (select s.name from hotpath.tag_seen s where s.id = tag_name.id limit 1));
end;

create view hotpath.job as
select q.id, s.name as script, hotpath.tag_name(q.tag) as tag, 'queued'::text as state, q.priority::integer as priority, q.scheduled_for,
    hotpath.uuid_time(q.id) as created_at, null::timestamptz as started_at, null::timestamptz as finished_at, null::double precision as duration_ms,
    null::text as worker, q.attempt::integer as attempt,
    coalesce(q.args, (select p.args from hotpath.payload p where p.id = q.id)) as args, null::json as result, null::json as error
from hotpath.job_queue q join hotpath.script s on s.id = q.script
union all
select u.id, s.name, hotpath.tag_name(b.tag), 'queued', u.priority, u.scheduled_for, hotpath.uuid_time(u.id), null, null, null, null, u.attempt,
    coalesce(u.args, (select p.args from hotpath.payload p where p.id = u.id)), null, null
from hotpath.batch b join hotpath.script s on s.id = b.script
cross join lateral (
    select coalesce(b.ids[k + 1], hotpath.job_id(b.base, k)) as id, coalesce(b.priorities[k + 1], b.priority)::integer as priority,
        coalesce(b.scheduled[k + 1], b.scheduled_for) as scheduled_for, coalesce(b.attempts[k + 1], 0)::integer as attempt, a.args
    from (select a.args, (a.ord - 1)::integer as k from unnest(b.args) with ordinality as a(args, ord)) a
    where k >= b.next and (b.skip is null or get_bit(b.skip, k) = 0)) u
where b.next < b.n
union all
select u.id, s.name, hotpath.tag_name(b.tag), 'running', u.priority, u.scheduled_for, hotpath.uuid_time(u.id), l.claimed_at, null, null, w.name, u.attempt + 1,
    coalesce(u.args, (select p.args from hotpath.payload p where p.id = u.id)), null, null
from hotpath.lease l join hotpath.batch b on b.base = l.batch join hotpath.script s on s.id = b.script left join hotpath.worker w on w.id = l.worker
cross join lateral (
    select coalesce(b.ids[k + 1], hotpath.job_id(b.base, k)) as id, coalesce(b.priorities[k + 1], b.priority)::integer as priority,
        coalesce(b.scheduled[k + 1], b.scheduled_for) as scheduled_for, coalesce(b.attempts[k + 1], 0)::integer as attempt, a.args
    from (select a.args, (a.ord - 1)::integer as k from unnest(b.args) with ordinality as a(args, ord)) a
    where k >= l.lo and k < l.hi and (b.skip is null or get_bit(b.skip, k) = 0) and (l.done is null or get_bit(l.done, k - l.lo) = 0)) u
union all
select d.id, s.name, hotpath.tag_name(d.tag), case d.state when 1 then 'success' when 2 then 'failure' else 'canceled' end, d.priority::integer, d.scheduled_for,
    hotpath.uuid_time(d.id), d.started_at, coalesce(d.started_at + d.duration_us * interval '1 microsecond', d.done_at), d.duration_us / 1000.0::double precision,
    w.name, d.attempt::integer, coalesce(d.args, (select p.args from hotpath.payload p where p.id = d.id)), d.result, d.error
from hotpath.job_done d join hotpath.script s on s.id = d.script left join hotpath.worker w on w.id = d.worker;
