-- The last $2 words of alert $1, the newest first.
select id, channel, word, finding, said_at, tries, tried_by, problem, ended_at, delivered from hotpath.alert_word where alert = $1
order by said_at desc, id desc limit $2::int4
