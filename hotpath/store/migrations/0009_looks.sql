-- What the page, the API and Prometheus ask: what workers say of themselves with their heartbeat, and what they have counted.

-- Null: not said, by a program that does not know of it, or not yet.
alter table hotpath.worker
    add column program text,           -- version of hotpath
    add column rss int8,               -- resident bytes
    add column cpu_us int8,            -- CPU time so far
    add column at_lease int8,          -- the job whose code runs: its lease, place in that, and since when
    add column at_place int4,
    add column at_since timestamptz,
    add column under_way int4,         -- jobs that run, of those it holds
    add column occupied real[],        -- share of its time inside `main`, over 15 seconds, 5 and 30 minutes
    add column rates real[],           -- jobs/s of the last seconds, for each of `tags`
    add column deaf boolean;           -- nothing can wake it: it finds jobs by polling

-- Counts that only grow, as their keeper (a supervisor, or a worker without one) said them last. What is new is the difference to this
-- row, so that saying it again after a lost reply counts nothing twice. Layout: hotpath/core/tally.py.
create table hotpath.keeper_count (
    keeper int8 not null,              -- random, new at every start
    script integer not null,
    tag int8 not null,
    counts int8[] not null,
    said_at timestamptz not null default now(),
    primary key (keeper, script, tag)
) with (fillfactor = 50);

-- The same, by minute in which it was said: the series of the overview. 14 days, and no more than a million rows.
create table hotpath.minute (
    minute timestamptz not null,
    script integer not null,
    tag int8 not null,
    success int8 not null,
    failure int8 not null,
    canceled int8 not null,
    retried int8 not null,             -- attempts that failed and run again
    busy_us int8 not null,             -- time inside `main`
    primary key (minute, script, tag)
) with (fillfactor = 70);

-- And from the beginning, with histograms: what Prometheus scrapes.
create table hotpath.total (
    script integer not null,
    tag int8 not null,
    counts int8[] not null,
    said_at timestamptz not null default now(),
    primary key (script, tag)
) with (fillfactor = 50);

alter table hotpath.keeper_count set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
alter table hotpath.total set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- Sum and difference, element by element; a longer one is of a newer program, whose further counts stand alone.
create function hotpath.counts_plus(a int8[], b int8[]) returns int8[] language sql immutable parallel safe
begin atomic
    select array(select coalesce(u.x, 0) + coalesce(u.y, 0) from unnest(a, b) with ordinality as u (x, y, ord) order by u.ord);
end;

create function hotpath.counts_minus(a int8[], b int8[]) returns int8[] language sql immutable parallel safe
begin atomic
    select array(select greatest(coalesce(u.x, 0) - coalesce(u.y, 0), 0) from unnest(a, b) with ordinality as u (x, y, ord) order by u.ord);
end;

revoke all on hotpath.keeper_count, hotpath.minute, hotpath.total from public;
revoke all on function hotpath.counts_plus, hotpath.counts_minus from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.keeper_count, hotpath.minute, hotpath.total to hotpath_worker;
        grant execute on function hotpath.counts_plus, hotpath.counts_minus to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.keeper_count, hotpath.minute, hotpath.total to hotpath_read;
        grant execute on function hotpath.counts_plus, hotpath.counts_minus to hotpath_read;
    end if;
end $$;
