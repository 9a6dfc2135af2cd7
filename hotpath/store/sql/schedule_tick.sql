-- Does what was decided about the ticks of some schedules; returns how many of these were still as they had been seen. $1 ids, $2 revisions, $3 next
-- ticks, $4 held ticks, $5 how many were missed, $6 how many skipped; $7 and $8 the ticks that become jobs: schedule and time; $9 the time by which it
-- was decided (null: now).
select hotpath.tick_schedules($1::int4[], $2::int8[], $3::timestamptz[], $4::timestamptz[], $5::int4[], $6::int4[], $7::int4[], $8::timestamptz[],
    $9::timestamptz)
