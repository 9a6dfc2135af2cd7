-- Forget which jobs old ticks became, but for the last of each schedule, and those that it may have caught up while a clock was ahead. $1 days, $2 how
-- many at most.
delete from hotpath.schedule_tick where ctid = any (array(
    select t.ctid from hotpath.schedule_tick t
    where t.at < now() - $1::float8 * interval '1 day' and exists (select from hotpath.schedule_tick n where n.schedule = t.schedule and n.at > t.at)
        and not exists (select from hotpath.schedule s
            where s.id = t.schedule and t.at > now() - s.catch_up_within * interval '1 second')
    order by t.at limit $2))
