-- The minutes of the hour that begins at $1 become one row of each script and tag: their sum. Returns how many rows that leaves less.
with gone as (
    delete from hotpath.minute where minute >= $1::timestamptz and minute < $1 + interval '1 hour' returning *
),
put as (
    insert into hotpath.minute (minute, script, tag, success, failure, canceled, retried, busy_us)
    select $1, script, tag, sum(success), sum(failure), sum(canceled), sum(retried), sum(busy_us) from gone group by script, tag returning 1
),
until as (update hotpath.rolled set until = $1 + interval '1 hour' where name = 'minute')
select (select count(*) from gone) - (select count(*) from put)
