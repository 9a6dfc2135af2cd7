-- Moves results from some blocks of a day to wherever there is room. $1, $2 begin and end of the day; $3 first block; $4 block behind the last. An
-- update would leave a row on its block if that has room. Whoever retries such a job at that moment is told to try again.
with hint as materialized (select set_config('synchronous_commit', 'off', true)),
locked as materialized (
    select d.ctid as at from hotpath.job_done d
    where d.done_at >= $1::timestamptz and d.done_at < $2::timestamptz and d.ctid >= format('(%s,0)', $3::int8)::tid and d.ctid < format('(%s,0)', $4::int8)::tid
        and (select true from hint) is not null
    for update skip locked
),
gone as (delete from hotpath.job_done d using locked l where d.ctid = l.at and d.done_at >= $1 and d.done_at < $2 returning d.*),
moved as (insert into hotpath.job_done select * from gone returning 1)
select count(*) as rows from moved
