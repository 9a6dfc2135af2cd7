-- Whose trace a job belongs to: the W3C traceparent of whoever put it in. A row of its own, written by traced enqueues alone and read by workers
-- with telemetry alone, so that jobs without one pay nothing. It stays for retries, and goes after 14 days.

create table hotpath.trace (
    job uuid primary key,              -- a loose job's id, or the base of a sealed batch: then of all its jobs
    traceparent text not null,
    at timestamptz not null default clock_timestamp()
);
create index trace_at on hotpath.trace (at);

-- Carries a trace with a job, in the caller's transaction: `select hotpath.carry_trace(hotpath.enqueue(...), '00-...')`. What is no traceparent of
-- version 00 is ignored, as W3C wants it. Returns the job.
create function hotpath.carry_trace(job uuid, traceparent text) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    if carry_trace.traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
        and carry_trace.traceparent !~ '^00-(0{32}|[0-9a-f]{32}-0{16})' then
        insert into hotpath.trace (job, traceparent) values (carry_trace.job, carry_trace.traceparent) on conflict do nothing;
    end if;
    return carry_trace.job;
end $$;

-- A secret is a text, in messages.
create or replace function hotpath.schema_word(schema jsonb, defs jsonb) returns text
language plpgsql immutable parallel safe as $$
begin
    if schema ? '$ref' then
        return hotpath.schema_word(defs -> substr(schema ->> '$ref', 9), defs);
    elsif schema ? 'anyOf' then
        return (select string_agg(hotpath.schema_word(m, defs), ' | ' order by i) from jsonb_array_elements(schema -> 'anyOf') with ordinality a (m, i));
    elsif schema ? 'enum' or schema ? 'const' then
        return coalesce(hotpath.type_word(coalesce(schema -> 'const', schema -> 'enum' -> 0)), 'any');
    elsif schema ->> 'contentEncoding' = 'base64' then
        return 'bytes';
    elsif schema ? 'format' and schema ->> 'format' not in ('path', 'password') then
        return replace(schema ->> 'format', 'date-time', 'datetime');
    end if;
    return case schema ->> 'type' when 'integer' then 'int' when 'number' then 'float' when 'string' then 'str'
        when 'boolean' then 'bool' else coalesce(schema ->> 'type', 'any') end;
end $$;

revoke all on hotpath.trace from public;
revoke all on function hotpath.carry_trace from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_enqueue') then
        grant execute on function hotpath.carry_trace to hotpath_enqueue;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.trace to hotpath_worker;
        grant execute on function hotpath.carry_trace to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.trace to hotpath_read;
    end if;
end $$;
