-- Whether nothing of this script is left to run on these tags: nothing due waits and nobody holds a lease. $1 tags; $2 script.
select not exists (select from unnest($1::int8[]) as t (tag) where
        exists (select from hotpath.job_queue q where q.tag = t.tag and q.script = $2::int4 and q.scheduled_for <= now())
        or exists (select from hotpath.batch b where b.tag = t.tag and b.script = $2 and b.next < b.n and b.scheduled_for <= now()))
    and not exists (select from hotpath.lease l join hotpath.batch b on b.base = l.batch where b.script = $2 and b.tag = any ($1)) as drained
