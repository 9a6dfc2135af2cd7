-- Drops args that no job refers to any more, of some jobs whose ids are from before the oldest day that there is. $1 ids above this; $2 how many; $3
-- the oldest day's begin; $4 the first id of that day. Where to go on, and how many were dropped. A job is in one place in one look.
with few as materialized (
    select p.id from hotpath.payload p where p.id > $1::uuid and p.id < $4::uuid order by p.id limit $2::int8
),
gone as (
    delete from hotpath.payload p using few s
    where p.id = s.id and not exists (select from hotpath.job_done d where d.id = s.id and d.done_at >= $3::timestamptz)
        and not exists (select from hotpath.job_queue q where q.id = s.id)
        and not exists (select from hotpath.batch b where b.base = hotpath.batch_of(s.id) and b.ids is null)
        and not exists (select from hotpath.batch b where b.ids is not null and s.id = any (b.ids))
    returning 1
)
select (select s.id from few s order by s.id desc limit 1) as last, (select count(*) from few) as seen, (select count(*) from gone) as gone
