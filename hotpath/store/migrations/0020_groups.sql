-- Worker groups: what the workers of one have in common, edited by command, API and SQL, heeded by supervisors within a second.

-- Not counted by group: one that is deleted and made again is another one to whoever ran with the first.
create sequence hotpath.group_revision;

create table hotpath.worker_group (
    name text not null primary key check (name <> '' and char_length(name) <= 100),
    config jsonb not null check (jsonb_typeof(config) = 'object'),  -- what is set, as hotpath/core/group_document.py reads it
    revision int8 not null default nextval('hotpath.group_revision'),
    updated_at timestamptz not null default now(),
    updated_by text
);

-- With which revision of its group's configuration a worker runs (null: with none), and why not with the newest.
alter table hotpath.worker add column group_revision int8;
alter table hotpath.worker add column group_trouble text;

-- Runs of a group's own scripts are jobs that have ended, of scripts without a version: no worker would take them. Likewise HP003.
create or replace function hotpath.retry(job uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not hotpath.run_again(retry.job, null) then
        return false;
    end if;
    if exists (select from hotpath.job_queue q join hotpath.script s on s.id = q.script where q.id = retry.job and s.version is null) then
        raise exception using errcode = 'HP003',
            message = format('job %s is a run of a script of a worker group: it runs with its workers, and cannot be run again by itself', retry.job);
    end if;
    perform hotpath.refuse_without_args(retry.job);
    return true;
end $$;

-- Readers see that there are groups; the values of their environment are not for everybody.
revoke all on hotpath.worker_group from public;
revoke all on sequence hotpath.group_revision from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.worker_group to hotpath_worker;
        grant usage on sequence hotpath.group_revision to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select (name, revision, updated_at, updated_by) on hotpath.worker_group to hotpath_read;
    end if;
end $$;
