-- Word $1 is delivered.
update hotpath.alert_word set ended_at = now(), delivered = true, problem = null where id = $1::int8 and ended_at is null
