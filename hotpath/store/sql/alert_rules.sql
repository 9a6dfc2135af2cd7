-- All alerts, for whoever has the turn: locked in the order of their names, against those who change them.
select name, rule, channels, hold_seconds, clear_seconds, cooldown_seconds, coalesce(silent_until > now(), false) as silenced, phase, since, fired_at,
    said_at, is_said, looked_at from hotpath.alert order by name for update
