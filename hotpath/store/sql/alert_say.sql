-- A word for each of channels $2 of alert $1. $3 word; $4 rule; $5 finding; $6 fired_at. No more than a thousand wait for one channel.
insert into hotpath.alert_word (alert, channel, word, rule, finding, fired_at)
select $1, c, $3, $4, $5, $6::timestamptz from unnest($2::text[]) c
where (select count(*) from hotpath.alert_word w where w.alert = $1 and w.channel = c and w.ended_at is null) < 1000
returning id
