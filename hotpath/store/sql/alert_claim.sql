-- Words that are to be delivered now, at most $1, taken by $2 for $3 seconds: whoever dies with one leaves it to another then. Of a channel the oldest
-- first, so that none comes before the one it follows; a test waits for nobody. None of channels $4, but tests.
with due as (
    select w.id from hotpath.alert_word w
    where w.ended_at is null and w.next_at <= now() and (w.word = 'test' or w.channel <> all ($4::text[]))
      and (w.word = 'test' or not exists (
          select from hotpath.alert_word b
          where b.alert = w.alert and b.channel = w.channel and b.ended_at is null and b.id < w.id and b.word <> 'test'))
    order by w.next_at, w.id limit $1::int4 for update skip locked
)
update hotpath.alert_word w set tries = w.tries + 1, tried_by = $2, next_at = now() + $3::float8 * interval '1 second' from due where w.id = due.id
returning w.id, w.alert, w.channel, w.word, w.rule, w.finding, w.fired_at, w.said_at, w.tries
