-- How many blocks a day's partition has now. $1 its name.
select coalesce(pg_relation_size(to_regclass('hotpath.' || $1::text)), 0) / current_setting('block_size')::int8 as blocks
