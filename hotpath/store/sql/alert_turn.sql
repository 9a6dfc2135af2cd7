-- Takes the turn to look at all rules, if the last look was $1 seconds ago or more; nobody waits for who has it. Returns the time, or no row.
update hotpath.alert_turn set looked_at = now() where only_row = (select only_row from hotpath.alert_turn where looked_at <= now() - $1::float8 * interval '1 second'
    for update skip locked) returning now() as now
