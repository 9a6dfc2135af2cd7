-- Alerts by name, or the one named $1, with the words that are not delivered yet and what is wrong with the last that could not be, where its channel
-- took none since.
select a.*, a.silent_until > now() as silenced, w.undelivered, w.problem
from hotpath.alert a cross join lateral (
    select count(*) filter (where ended_at is null) as undelivered,
        (array_agg(problem order by id desc) filter (where problem is not null and not delivered and id > coalesce(good, 0)))[1] as problem
    from (select o.*, max(o.id) filter (where o.delivered) over (partition by o.channel) as good from hotpath.alert_word o where o.alert = a.name order by o.said_at desc limit 100) o) w
where $1::text is null or a.name = $1 order by a.name
