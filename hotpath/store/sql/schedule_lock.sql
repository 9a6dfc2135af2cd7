-- The time, with which a transaction that changes schedules begins; others wait for its end. $1 name.
select now() as now, pg_advisory_xact_lock(hashtextextended('hotpath.schedule ' || $1, 0))
