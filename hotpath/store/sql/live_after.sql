-- What watched jobs have printed behind a position, in order. $1 job, $2 attempt and $3 position of each.
select l.job, l.attempt, l.at, l.until, l.text, l.times
from unnest($1::uuid[], $2::int2[], $3::int8[]) as u (job, attempt, at)
cross join lateral (
    select * from hotpath.live_log g where g.job = u.job and (g.attempt, g.until) > (u.attempt, u.at) order by g.attempt, g.until, g.at limit 1000
) l
order by l.job, l.attempt, l.until, l.at
