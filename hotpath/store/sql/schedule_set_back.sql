-- Has schedules go on that were moved on by a clock that was ahead; returns how many were still as they had been seen. $1 ids, $2 revisions, $3 next
-- ticks, $4 the time by which it was decided.
select hotpath.set_back_schedules($1::int4[], $2::int8[], $3::timestamptz[], $4::timestamptz)
