-- Schedules that were moved on by a time that has not come, those that are farthest ahead first. $1 now (null: the database's), $2 seconds that are
-- none, $3 how many.
select coalesce($1::timestamptz, now()) as now, s.id, s.revision, s.kind, s.expression, s.timezone, s.anchor, s.moved_at, s.updated_at, s.last_at
from hotpath.schedule s
where s.enabled and s.moved_at > coalesce($1::timestamptz, now()) + $2::float8 * interval '1 second' order by s.moved_at desc limit $3
