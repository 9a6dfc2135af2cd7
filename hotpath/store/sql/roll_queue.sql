-- The minutes of the hour that begins at $1 become one row of each tag: the greatest of each. Returns how many rows that leaves less.
with gone as (
    delete from hotpath.queue_minute where minute >= $1::timestamptz and minute < $1 + interval '1 hour' returning *
),
put as (
    insert into hotpath.queue_minute (minute, tag, waiting, running, oldest_us)
    select $1, tag, max(waiting), max(running), max(oldest_us) from gone group by tag returning 1
),
until as (update hotpath.rolled set until = $1 + interval '1 hour' where name = 'queue_minute')
select (select count(*) from gone) - (select count(*) from put)
