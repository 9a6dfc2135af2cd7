-- What is kept for how long, and how far whoever drops the rest has got. docs/retention.md tells the rules.

-- For a script, or (empty name) for all: seconds since the end of the day (UTC) on which a job ended. Null: not said here.
create table hotpath.retention (
    script text not null primary key check (octet_length(script) <= 255),
    jobs float8 check (jobs >= 0 and jobs < 'infinity'),         -- the row: state, times, error, attempts; nothing else outlives it
    results float8 check (results >= 0 and results < 'infinity'),
    args float8 check (args >= 0 and args < 'infinity'),
    logs float8 check (logs >= 0 and logs < 'infinity'),
    disk int8 check (disk is null or disk > 0 and script = ''),              -- bytes that all tables together may take; the oldest days go first
    changed_at timestamptz not null default now()
);
-- A new database keeps jobs for 30 days and logs for 14. One that has been used keeps all that it has until somebody says otherwise.
insert into hotpath.retention (script, jobs, logs) select '', 30 * 86400, 14 * 86400 where not exists (select from hotpath.script);

-- Who is at it, until when to believe that, and what came of it last.
create table hotpath.pruning (
    only_row boolean not null primary key default true check (only_row),
    holder text,
    until timestamptz,
    ran_at timestamptz,                -- end of the last round
    more boolean not null default false,
    forbidden boolean not null default false, -- it lacked the right to drop whole days
    disk_at timestamptz,               -- when days were last dropped for the sake of the disk
    disk_dropped text[],               -- and which
    disk_bytes int8,                   -- as of the last round
    disk_bound int8,
    disk_held boolean
);
insert into hotpath.pruning default values;

-- How far a day's partition has been gone through, and for which scripts: so nobody reads a cold day again for nothing.
create table hotpath.pruned (
    part text not null primary key,    -- job_done_YYYYMMDD, job_log_YYYYMMDD; log_moved_YYYYMMDD for what has moved to a store
    jobs integer[] not null,           -- scripts whose rows go
    results integer[] not null,        -- scripts whose results go
    args integer[] not null,
    at int8,                           -- block (object) to go on from; null: it is through
    until int8 not null,               -- block behind the last
    passed_over int8 not null default 0, -- rows that somebody had locked, or whose run goes on: to be looked at again
    changed_at timestamptz not null default now()
);

-- ---------------------------------------------------------------- what is not kept cannot be run again

-- Raises HP005 for a job that was put back into the queue by this transaction and whose args are gone. Looked at behind the row's own move:
-- whoever blanks args locks that row first.
create function hotpath.refuse_without_args(job uuid) returns void language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from hotpath.job_queue q where q.id = refuse_without_args.job and q.args is null)
        and not exists (select from hotpath.payload p where p.id = refuse_without_args.job) then
        raise exception using errcode = 'HP005', message = format('job %s cannot be run again: its args are not kept any more', refuse_without_args.job),
            hint = 'put in a new job; `hotpath retention show` tells how long args are kept';
    end if;
end $$;

-- Runs a job that has ended once more, under the same id; a flow's run begins anew. False when it has not ended; HP005 when its args are gone.
create or replace function hotpath.retry(job uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not hotpath.run_again(retry.job, null) then
        return false;
    end if;
    perform hotpath.refuse_without_args(retry.job);
    return true;
end $$;

-- The same, from a step of a flow's run on. HP003 when it has no such step.
create or replace function hotpath.retry_from(run uuid, key text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    if key is null then
        raise exception using errcode = 'HP003', message = 'key must be that of a step, not NULL';
    end if;
    if not hotpath.run_again(run, key) then
        return false;
    end if;
    perform hotpath.refuse_without_args(run);
    return true;
end $$;

-- Whether this run of a flow goes on: what its steps ended with may be asked for yet.
create function hotpath.goes_on(run uuid) returns boolean language sql stable parallel safe set search_path = pg_catalog, pg_temp as $$
    select not exists (select from hotpath.job_done d where d.id = goes_on.run and d.done_at >= hotpath.uuid_time(goes_on.run) - interval '5 minutes')
        and exists (select from hotpath.job_get(goes_on.run))
$$;

revoke all on hotpath.retention, hotpath.pruning, hotpath.pruned from public;
revoke all on function hotpath.refuse_without_args, hotpath.goes_on from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.retention, hotpath.pruning, hotpath.pruned to hotpath_worker;
        grant execute on function hotpath.refuse_without_args, hotpath.goes_on to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.retention, hotpath.pruning, hotpath.pruned to hotpath_read;
        grant execute on function hotpath.goes_on to hotpath_read;
    end if;
end $$;
