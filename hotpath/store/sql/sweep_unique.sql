-- Forget unique keys that do not count any more, pauses that are over, and starts of rates that are none any more. $1 how many keys at most.
with over as (delete from hotpath.tag_pause where until < now() - interval '1 day'),
old as (
    delete from hotpath.limit_start g where not exists (select from hotpath.script s where s.limit_scope = g.scope and s.limits ? 'rate')
        and (g.begun < now() - interval '1 day' or (g.begun is null and not exists (select from hotpath.lease l where l.id = g.lease)))
)
select hotpath.sweep_unique($1::int4)
