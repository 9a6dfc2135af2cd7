-- An alert as it is to be. $1 name; $2 rule; $3 channels; $4, $5, $6 seconds to hold, to clear, between two words. One that watches something else
-- than before begins anew.
insert into hotpath.alert as a (name, rule, channels, hold_seconds, clear_seconds, cooldown_seconds) values ($1, $2, $3, $4::float8, $5::float8, $6::float8)
on conflict (name) do update set rule = excluded.rule, channels = excluded.channels, hold_seconds = excluded.hold_seconds,
    clear_seconds = excluded.clear_seconds, cooldown_seconds = excluded.cooldown_seconds, set_at = now(),
    phase = case when a.rule = excluded.rule then a.phase else 'fine' end, since = case when a.rule = excluded.rule then a.since else now() end,
    fired_at = case when a.rule = excluded.rule then a.fired_at end, said_at = case when a.rule = excluded.rule then a.said_at end,
    is_said = a.is_said and a.rule = excluded.rule, finding = case when a.rule = excluded.rule then a.finding end
