-- Whether nothing is left of a day that is over. $1, $2 its begin and end.
select not exists (select from hotpath.job_done d where d.done_at >= $1::timestamptz and d.done_at < $2::timestamptz)
    and not exists (select from hotpath.job_attempt a where a.done_at >= $1 and a.done_at < $2)
    and not exists (select from hotpath.job_log g where g.done_at >= $1 and g.done_at < $2) as empty
