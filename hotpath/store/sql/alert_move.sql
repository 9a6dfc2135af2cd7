-- Where alerts $1 stand now. $2 phases; $3 since; $4 fired_at; $5 said_at; $6 is_said; $7 what was found.
update hotpath.alert a set phase = m.phase, since = m.since, fired_at = m.fired_at, said_at = m.said_at, is_said = m.is_said, finding = m.finding,
    looked_at = now()
from unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::boolean[], $7::text[])
    as m (name, phase, since, fired_at, said_at, is_said, finding)
where a.name = m.name
