-- Number of the run of a job in hand, from 1. $1 lease; $2 place in it. No row: nobody holds it any more.
select coalesce(b.attempts[l.lo + $2::int4 + 1], 0) + 1 as attempt
from hotpath.lease l join hotpath.batch b on b.base = l.batch
where l.id = $1::int8 and $2 >= 0 and $2 < l.hi - l.lo and (l.done is null or get_bit(l.done, $2) = 0)
