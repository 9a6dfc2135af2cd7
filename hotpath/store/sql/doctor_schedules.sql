-- Schedules that should have ticked and have not, those whose last tick was refused, those that were moved on by a clock that was ahead, and ticks that
-- it made before their time, some of each. $1 seconds that a tick may be late, $2 how many, $3 seconds that a clock may be ahead.
(select 'late' as what, s.name, s.next_at as at, count(*) over () as "all"
 from hotpath.schedule s where s.enabled and s.next_at < now() - $1::float8 * interval '1 second' order by s.next_at limit $2)
union all
(select 'refused', s.name, s.last_error_at, count(*) over ()
 from hotpath.schedule s where s.last_error is not null order by s.last_error_at desc limit $2)
union all
(select 'ahead', s.name, s.moved_at, count(*) over ()
 from hotpath.schedule s where s.enabled and s.moved_at > now() + $3::float8 * interval '1 second' order by s.moved_at desc limit $2)
union all
(select 'early', s.name, t.at, count(*) over ()
 from hotpath.schedule_tick t join hotpath.schedule s on s.id = t.schedule
 where not t.by_hand and t.at > now() + $3::float8 * interval '1 second' order by t.at desc limit $2)
