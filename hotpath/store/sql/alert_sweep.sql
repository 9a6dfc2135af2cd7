-- Drops words that ended more than 14 days ago.
delete from hotpath.alert_word where ended_at < now() - interval '14 days'
