-- What is configured in the database and heeded by running processes: who changes something says so, and whoever heeds it reads it again.

-- A row and not a sequence: it changes when the change is committed, so that nobody reads too early and then never again.
create table hotpath.config_revision (only_row boolean primary key default true check (only_row), n int8 not null default 0);
insert into hotpath.config_revision default values;

-- Something of the configuration has changed: `what` is its kind and name, such as `group:default`. The last statement of its transaction.
create function hotpath.config_changed(what text) returns void language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    update hotpath.config_revision set n = n + 1;
    perform pg_notify('hotpath_config', left(what, 1000));
end $$;

-- Tags by pattern that a worker listens to; null: those in `tags` alone. Grammar and meaning: hotpath/core/tags.py.
alter table hotpath.worker add column patterns text[];

create function hotpath.tag_listened(name text, patterns text[]) returns boolean language sql immutable parallel safe
begin atomic
    select coalesce(bool_or(l.matches) filter (where not l.excludes), true) and not coalesce(bool_or(l.matches) filter (where l.excludes), false)
        and count(*) > 0
    from (
        select p.pattern like '!%' as excludes, tag_listened.name like
            replace(replace(replace(replace(ltrim(p.pattern, '!'), '\', '\\'), '%', '\%'), '_', '\_'), '*', '%') as matches
        from unnest(tag_listened.patterns) as p (pattern)) l;
end;

revoke all on hotpath.config_revision from public;
revoke all on function hotpath.config_changed, hotpath.tag_listened from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.config_revision to hotpath_worker;
        grant execute on function hotpath.config_changed, hotpath.tag_listened to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.config_revision to hotpath_read;
        grant execute on function hotpath.tag_listened to hotpath_read;
    end if;
end $$;
