-- Moves logs from some blocks of a day to wherever there is room. $1, $2 begin and end of the day; $3 first block; $4 block behind the last.
with hint as materialized (select set_config('synchronous_commit', 'off', true)),
locked as materialized (
    select g.ctid as at from hotpath.job_log g
    where g.done_at >= $1::timestamptz and g.done_at < $2::timestamptz and g.ctid >= format('(%s,0)', $3::int8)::tid and g.ctid < format('(%s,0)', $4::int8)::tid
        and (select true from hint) is not null
    for update skip locked
),
gone as (delete from hotpath.job_log g using locked l where g.ctid = l.at and g.done_at >= $1 and g.done_at < $2 returning g.*),
moved as (insert into hotpath.job_log select * from gone returning 1)
select count(*) as rows from moved
