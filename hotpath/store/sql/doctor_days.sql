-- Days (UTC) from today to $1 days ahead for which a table has no partition that is attached; whether one stands there detached, or half so.
select p.name as parent, d.day, d.ahead, to_regclass('hotpath.' || d.part) is not null as stands,
    exists (select from pg_catalog.pg_inherits i where i.inhrelid = to_regclass('hotpath.' || d.part) and i.inhdetachpending) as pending
from unnest(array['job_done', 'job_attempt', 'job_log']) as p (name) cross join generate_series(0, $1::int4) as a (ahead)
cross join lateral (
    select a.ahead, (now() at time zone 'UTC')::date + a.ahead as day, p.name || to_char((now() at time zone 'UTC')::date + a.ahead, '_YYYYMMDD') as part) d
where not exists (
    select from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
    where i.inhparent = ('hotpath.' || p.name)::regclass and not i.inhdetachpending and c.relname = d.part)
order by 2, 1
