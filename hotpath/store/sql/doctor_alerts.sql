-- Alerts of which words of the last day were not delivered, or have been tried more than twice, to a channel that they have and that took none since; and
-- those nobody has looked at for $1 seconds.
select a.name, count(w.id) as words, max(w.problem) as problem, coalesce(a.looked_at < now() - $1::float8 * interval '1 second', a.set_at < now() - $1 * interval '1 second')
        as late, a.looked_at
from hotpath.alert a left join hotpath.alert_word w on w.alert = a.name and not w.delivered and w.said_at > now() - interval '1 day'
    and (w.ended_at is not null or w.tries > 2) and w.channel = any (a.channels)
    and not exists (select from hotpath.alert_word l where l.alert = w.alert and l.said_at >= w.said_at and l.channel = w.channel and l.id > w.id and l.delivered)
group by a.name having count(w.id) > 0 or coalesce(a.looked_at, a.set_at) < now() - $1 * interval '1 second' order by a.name
