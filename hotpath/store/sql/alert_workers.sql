-- Workers that have not stopped, by group; those that were lost more than a day ago are left out, as nobody will come back for them. Alive are those
-- that listen to tags: what a normal worker keeps warm is a part of it. And how many live ones each group wants at least, if it says so.
with w as (
    select worker_group as name, count(*) filter (where lease_until > now() and (cardinality(tags) > 0 or patterns is not null)) as alive,
        count(*) filter (where lease_until <= now()) as lost, count(*) filter (where lease_until > now() and deaf) as deaf
    from hotpath.worker where stopped_at is null and last_ping > now() - interval '1 day' group by worker_group
),
g as (select name, (config ->> 'alert_min_workers')::int4 as wanted from hotpath.worker_group where config ->> 'alert_min_workers' is not null)
select coalesce(w.name, g.name) as name, coalesce(w.alive, 0) as alive, coalesce(w.lost, 0) as lost, coalesce(w.deaf, 0) as deaf,
    coalesce(g.wanted, 0) as wanted
from w full join g on g.name = w.name
