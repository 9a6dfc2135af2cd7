-- These rows of logs. $1 ids; $2 attempts; $3 seqs; $4 when they were written.
select g.id, g.attempt, g.seq, g.done_at, g.text
from unnest($1::uuid[], $2::int2[], $3::int4[], $4::timestamptz[]) with ordinality as u (id, attempt, seq, done_at, ord)
join hotpath.job_log g on g.id = u.id and g.attempt = u.attempt and g.seq = u.seq and g.done_at = u.done_at
order by u.ord
