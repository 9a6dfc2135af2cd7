-- The database's clock, in microseconds since the epoch.
select (extract(epoch from clock_timestamp()) * 1000000)::int8
