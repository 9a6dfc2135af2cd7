-- When this transaction began, and the clock that ids are made by.
select now() as now, extract(epoch from clock_timestamp())::float8 as clock
