-- What queues are like in minute $1: tags $2, of which $3 jobs wait, $4 run, and the oldest has been due since $5. The $6 fullest get a row each, the
-- others one together.
with said as materialized (
    select t.*, row_number() over (order by t.waiting + t.running desc, t.name) as nth
    from unnest($2::text[], $3::int8[], $4::int8[], $5::timestamptz[]) as t (name, waiting, running, oldest)
)
insert into hotpath.queue_minute (minute, tag, waiting, running, oldest_us)
select $1::timestamptz, case when nth <= $6::int8 then hotpath.tag_id(name) else 0 end as key, sum(waiting), sum(running),
    max((extract(epoch from greatest($1, now()) - oldest) * 1000000)::int8)
from said group by key
