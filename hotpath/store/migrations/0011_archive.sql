-- Logs that have left the database: where each is now. docs/data-model.md tells how they go there.

-- An object of the log store, which holds many logs one after the other, each compressed by itself.
create table hotpath.log_object (
    id int8 generated always as identity primary key,
    store text not null,               -- address of the store, as HOTPATH_LOG_STORE had it
    name text not null,
    day date not null,                 -- all its logs were written on this day (UTC): it goes with that day's partitions
    stored boolean not null default false, -- false: it was being written; nothing refers to it
    logs integer not null default 0,
    bytes int8 not null default 0,
    made_at timestamptz not null default now()
);
create index log_object_day on hotpath.log_object (day);
create index log_object_loose on hotpath.log_object (made_at) where not stored;

-- A row of job_log that has moved: the same, with a place in an object for its text.
create table hotpath.log_moved (
    id uuid not null,
    attempt int2 not null,
    seq integer not null,
    object int8 not null,
    at int8 not null,                  -- byte of the object where it begins
    size integer not null,             -- bytes, compressed
    chars integer not null,            -- characters of its text
    done_at timestamptz not null,
    marks int8[],
    primary key (id, attempt, seq)
);
create index log_moved_object on hotpath.log_moved (object);

-- The closed logs in these blocks of a day's partition, written before a time, with the bytes of each: those of jobs that have
-- ended and, where they are steps, whose run has, too (its end may yet blank them). `young`: there is one written later.
create function hotpath.logs_to_move(day date, from_block int8, to_block int8, before timestamptz)
returns table (id uuid, attempt int2, seq integer, done_at timestamptz, size int8, young boolean)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    return query execute format('
        select g.id, g.attempt, g.seq, g.done_at, octet_length(g.text)::int8, g.done_at >= $3
        from hotpath.%I g
        left join lateral (select d.parent, true as ended from hotpath.job_done d
            where d.id = g.id and d.done_at >= hotpath.uuid_time(g.id) - interval ''5 minutes'') d on true
        where g.ctid >= $1 and g.ctid < $2 and (g.done_at >= $3 or (d.ended and (d.parent is null or exists (
            select from hotpath.job_done r where r.id = d.parent and r.done_at >= hotpath.uuid_time(d.parent) - interval ''5 minutes''))))',
        'job_log_' || to_char(day, 'YYYYMMDD'))
        using format('(%s,0)', from_block)::tid, format('(%s,0)', to_block)::tid, before;
end $$;

-- As it was, and what has moved, too: the object keeps its bytes until its day is dropped, but nothing leads there any more.
create or replace function hotpath.blank_steps(run uuid, keys text[]) returns void language sql volatile set search_path = pg_catalog, pg_temp as $$
    with b as (
        update hotpath.job_done d set args = null, result = null
        where d.parent = blank_steps.run and d.done_at >= hotpath.uuid_time(blank_steps.run) - interval '5 minutes' and d.step = any (blank_steps.keys)
        returning d.id
    ),
    p as (delete from hotpath.payload p using b where p.id = b.id),
    m as (delete from hotpath.log_moved m using b where m.id = b.id)
    delete from hotpath.job_log g using b where g.id = b.id and g.done_at >= hotpath.uuid_time(blank_steps.run) - interval '5 minutes'
$$;

revoke all on hotpath.log_object, hotpath.log_moved from public;
revoke all on function hotpath.logs_to_move from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.log_object, hotpath.log_moved to hotpath_worker;
        grant execute on function hotpath.logs_to_move to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.log_object, hotpath.log_moved to hotpath_read;
    end if;
end $$;
