-- Pauses a schedule or has it go on. $1 name, $2 whether it ticks, $3 its next tick.
update hotpath.schedule set enabled = $2, next_at = $3, held_at = null, moved_at = case when $3 is distinct from next_at then now() else moved_at end,
    revision = revision + 1, updated_at = now() where name = $1 returning *
