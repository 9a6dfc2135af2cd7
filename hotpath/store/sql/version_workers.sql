-- Workers that live and are dedicated to a script or one of its pins: which version each runs, whether it has loaded that (what loads says
-- nothing of how occupied it is), and which one it could not. $1 script.
select w.id, w.name, w.script <> $1 as is_pinned, w.version, v.hash, w.occupied is not null as is_ready, w.refused, r.hash as refused_hash, w.refusal
from hotpath.worker w left join hotpath.script_version v on v.id = w.version left join hotpath.script_version r on r.id = w.refused
where w.stopped_at is null and w.lease_until > now()
    and w.script in (select $1::int4 union all select p.id from hotpath.script p where p.pin_of = $1)
order by w.id
