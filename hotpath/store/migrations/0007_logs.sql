-- Logs that are read while their job runs. A *position* is the number of characters of an attempt's log that came before.

-- What there is to know of a log's text beside it: position of what was not kept, how many characters that was, and how many the notice
-- in the text takes that stands in its place (three zeros for none); then position and milliseconds since the epoch, in turn: what stands
-- behind the position was written then or later. Null: nothing is missing, and all was written as the job started.
-- Rows of one attempt follow each other by `seq`: a row begins at the position where the one before ended.
alter table hotpath.job_log add column marks int8[];

-- Somebody looks at a job's log until then, if it runs or comes to run. What is lost with an unlogged table is said again by the viewers.
create unlogged table hotpath.watch (
    job uuid not null,
    viewer uuid not null,
    until timestamptz not null,
    primary key (job, viewer)
);

-- What watched jobs have printed and no row of job_log has yet, for a minute: hints, the log that is stored has it all.
create unlogged table hotpath.live_log (
    job uuid not null,
    attempt int2 not null,
    at int8 not null,                  -- position of its first character
    until int8 not null,               -- position behind its last
    text text not null,
    times int8[] not null,             -- position and milliseconds since the epoch, in turn
    said_at timestamptz not null default clock_timestamp()
);
create index live_log_job on hotpath.live_log (job, attempt, until);
create index live_log_said on hotpath.live_log (said_at);
alter table hotpath.live_log set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
alter table hotpath.watch set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- Watch the logs of these jobs for some seconds from now; again to go on. Supervisors are told of jobs that this viewer did not watch.
-- With the owner's rights: who may read may watch.
create function hotpath.watch_jobs(jobs uuid[], viewer uuid, seconds float8) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    fresh uuid;
begin
    for fresh in
        with said as (
            insert into hotpath.watch (job, viewer, until)
            select distinct u.job, watch_jobs.viewer, now() + watch_jobs.seconds * interval '1 second' from unnest(watch_jobs.jobs) as u (job) order by 1
            on conflict (job, viewer) do update set until = excluded.until
            returning job, xmax = 0 as is_new
        )
        select s.job from said s where s.is_new
    loop
        perform pg_notify('hotpath_watch', fresh::text);
    end loop;
end $$;

-- Watch these jobs no longer. Also takes away what viewers have left behind that did not say so.
create function hotpath.unwatch_jobs(jobs uuid[], viewer uuid) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp as $$
    delete from hotpath.watch w where w.job = any (unwatch_jobs.jobs) and w.viewer = unwatch_jobs.viewer or w.until < now() - interval '1 minute'
$$;

revoke all on hotpath.watch, hotpath.live_log from public;
revoke all on function hotpath.watch_jobs, hotpath.unwatch_jobs from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.watch, hotpath.live_log to hotpath_worker;
        grant execute on function hotpath.watch_jobs, hotpath.unwatch_jobs to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.watch, hotpath.live_log to hotpath_read;
        grant execute on function hotpath.watch_jobs, hotpath.unwatch_jobs to hotpath_read;
    end if;
end $$;
