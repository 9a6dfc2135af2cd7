-- Days (UTC) from today to $1 days ahead for which a table has no partition that is attached.
select p.name as parent, (now() at time zone 'UTC')::date + d.ahead as day, d.ahead
from unnest(array['job_done', 'job_attempt', 'job_log']) as p (name) cross join generate_series(0, $1::int4) as d (ahead)
where not exists (
    select from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
    where i.inhparent = ('hotpath.' || p.name)::regclass and not i.inhdetachpending
        and c.relname = p.name || to_char((now() at time zone 'UTC')::date + d.ahead, '_YYYYMMDD'))
order by 2, 1
