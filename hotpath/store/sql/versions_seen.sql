-- Versions of a script, the newest first: when they were registered and by whom, when they became current last, by whom, and whether their source is
-- stored; of a pin, the version that it means. $1 script.
select v.id, v.hash, v.created_at, v.made_by, s.version = v.id as current, c.at as chosen_at, c.made_by as chosen_by, c.back_to is not null as rolled_back,
    v.is_async, v.kind, v.summary, exists (select from hotpath.version_file f where f.version = v.id) as stored,
    exists (select from hotpath.script p where p.pin_of = v.script and p.version = v.id) as pinned
from hotpath.script s join hotpath.script_version v on v.script = coalesce(s.pin_of, s.id) and (s.pin_of is null or v.id = s.version)
left join lateral (select * from hotpath.version_choice c where c.script = v.script and c.version = v.id order by c.n desc limit 1) c on true
where s.id = $1 order by v.id desc
