-- Workers that live and belong to a group. What a normal worker keeps warm is a part of it: it listens to no tags. $1 name (null: to any).
select w.name, w.worker_group, w.host, w.pid, s.name as script, w.group_revision as revision, w.group_trouble as trouble,
    cardinality(w.tags) = 0 and w.patterns is null as is_part
from hotpath.worker w left join hotpath.script s on s.id = w.script
where w.stopped_at is null and w.lease_until > now() and w.worker_group is not null and ($1::text is null or w.worker_group = $1)
order by w.worker_group, w.name
