-- Alert $1 and its words that are not delivered yet.
with words as (delete from hotpath.alert_word where alert = $1 and ended_at is null)
delete from hotpath.alert where name = $1
