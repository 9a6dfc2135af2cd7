-- Jobs put in with a key of the caller's own: the same request with the same key, sent again after a lost reply, gives the same job.

create table hotpath.idempotency (
    key bytea primary key,             -- SHA-256 of whose key it is, and of the key
    request bytea not null,            -- SHA-256 of what was asked for
    job uuid not null,
    created_at timestamptz not null default clock_timestamp()
);
create index idempotency_created_at on hotpath.idempotency (created_at);

-- `hotpath.enqueue`, once for a key within 24 hours: the job, and whether it is `new`, there `again`, or the key was used for an `other`
-- request. The key is taken before anything else: who comes with the same one waits for this transaction to end.
create function hotpath.enqueue_once(key bytea, request bytea, script text, args jsonb default '{}', tag text default null, priority integer default 0,
    scheduled_for timestamptz default now(), timeout_ms integer default null) returns table (job uuid, verdict text)
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
        scheduled_for => enqueue_once.scheduled_for, timeout_ms => enqueue_once.timeout_ms);
    update hotpath.idempotency i set job = new_id where i.key = enqueue_once.key;
    return query select new_id, 'new';
end $$;

revoke all on hotpath.idempotency from public;
revoke all on function hotpath.enqueue_once from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_enqueue') then
        grant execute on function hotpath.enqueue_once to hotpath_enqueue;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.idempotency to hotpath_worker;
        grant execute on function hotpath.enqueue_once to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.idempotency to hotpath_read;
    end if;
end $$;
