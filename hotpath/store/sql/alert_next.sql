-- Whether there are alerts, or words that are to be delivered; and in how many seconds the next of these is to be tried, those of channels $1 left out, but
-- for tests.
select exists (select from hotpath.alert) as any_rules, (select extract(epoch from min(next_at) - now())::float8 from hotpath.alert_word
    where ended_at is null and (word = 'test' or channel <> all ($1::text[]))) as seconds
