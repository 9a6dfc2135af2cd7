-- What runs beside the work and was never enqueued (init and periodic scripts of groups), while it runs. No worker claims it, and nothing waits for it:
-- it is in nobody's queue and in no lease. Whoever runs it says every second that he is there; of whom nothing is heard, keepers end it.
create table hotpath.aside (
    id uuid primary key,
    script integer not null references hotpath.script,
    tag int8 not null,
    args json not null,
    started_at timestamptz not null,
    seen_at timestamptz not null default now(),
    canceled boolean not null default false      -- somebody wants it to end
);

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
from hotpath.job_done d join hotpath.script s on s.id = d.script left join hotpath.script_version v on v.id = s.version left join hotpath.worker w on w.id = d.worker
union all
select a.id, s.name, hotpath.tag_name(a.tag), 'running', 0, a.started_at, hotpath.uuid_time(a.id), a.started_at, null, null, null, 1, a.args, null, null,
    'script', null, null, null
from hotpath.aside a join hotpath.script s on s.id = a.script;

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
    if found then return; end if;
    return query select a.id, s.name, hotpath.tag_name(a.tag), 'running', 0, a.started_at, hotpath.uuid_time(a.id), a.started_at, null::timestamptz,
            null::double precision, null::text, 1, a.args, null::json, null::json, 'script', null::uuid, null::text, null::text
        from hotpath.aside a join hotpath.script s on s.id = a.script where a.id = wanted;
end $$;

-- Cancels this one job, as `cancel` did before there were flows.
create or replace function hotpath.cancel_one(job uuid) returns boolean language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
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
        update hotpath.aside a set canceled = true where a.id = cancel_one.job;  -- whoever runs it hears within a second
        if found then
            return true;
        end if;
        exit when not exists (select from hotpath.job_get(cancel_one.job) j where j.state in ('queued', 'running'));
    end loop;
    return false;
end $$;

revoke all on hotpath.aside from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.aside to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.aside to hotpath_read;
    end if;
end $$;
