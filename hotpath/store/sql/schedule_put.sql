-- Makes a schedule, or changes what it is. $1 name, $2 script, $3 args, $4 tag, $5 priority, $6 time-out in ms, $7 kind, $8 expression, $9 time zone,
-- $10 anchor, $11 catch up, $12 within seconds, $13 overlap, $14 enabled, $15 next tick, $16 tick that is held.
insert into hotpath.schedule as s (name, script, args, tag, priority, timeout_ms, kind, expression, timezone, anchor, catch_up, catch_up_within, overlap,
    enabled, next_at, held_at)
values ($1, $2, $3::jsonb, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
on conflict (name) do update set script = excluded.script, args = excluded.args, tag = excluded.tag, priority = excluded.priority,
    timeout_ms = excluded.timeout_ms, kind = excluded.kind, expression = excluded.expression, timezone = excluded.timezone, anchor = excluded.anchor,
    catch_up = excluded.catch_up, catch_up_within = excluded.catch_up_within, overlap = excluded.overlap, enabled = excluded.enabled,
    next_at = excluded.next_at, held_at = excluded.held_at,
    moved_at = case when excluded.next_at is distinct from s.next_at then now() else s.moved_at end, revision = s.revision + 1, updated_at = now(),
    last_error = null, last_error_at = null
returning *
