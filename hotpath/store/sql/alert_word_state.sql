-- What became of the words $1.
select id, channel, tries, tried_by, problem, ended_at, delivered from hotpath.alert_word where id = any ($1::int8[]) order by id
