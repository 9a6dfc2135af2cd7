-- Looks whether there are too many rows, if nobody has within the last $1 seconds: until when each table's rows are hours, and how many it has.
with turn as (
    update hotpath.rolled set looked_at = now() where looked_at < now() - $1::float8 * interval '1 second' returning name, until
)
select name, until, case name when 'minute' then (select count(*) from hotpath.minute) else (select count(*) from hotpath.queue_minute) end as rows from turn
