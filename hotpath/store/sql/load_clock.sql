-- When this transaction began, the clock that ids are made by, and what is done to jobs of the script ($1) as they are put in.
select now() as now, extract(epoch from clock_timestamp())::float8 as clock, s.entry, m.workspace
from hotpath.meta m left join hotpath.script s on s.id = $1::int4
