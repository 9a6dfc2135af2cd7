-- Number of the run of a job in hand, from 1, and keys of the steps that a run of a flow said in it that it begins or has under way. $1 lease;
-- $2 place in it. No row: nobody holds it any more.
select u.attempt, array(
    select hotpath.step_of_mark(m.key) from hotpath.mark m
    where m.run = u.id and m.key like 'running:%' and (m.value ->> 'life')::int4 = u.attempt order by m.at, m.key) as steps
from hotpath.lease l join hotpath.batch b on b.base = l.batch
cross join lateral (select coalesce(b.ids[l.lo + $2::int4 + 1], hotpath.job_id(b.base, l.lo + $2::int4)) as id,
    coalesce(b.attempts[l.lo + $2::int4 + 1], 0) + 1 as attempt) u
where l.id = $1::int8 and $2 >= 0 and $2 < l.hi - l.lo and (l.done is null or get_bit(l.done, $2) = 0)
