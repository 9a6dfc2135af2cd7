-- Runs leave their leases to wait in the queue; how many have left. $1 worker; $2 lease, $3 place in it and $4 id of each; $5 when it is due, in
-- microseconds since the epoch (null: until somebody wakes it); $6 what it waits for, as JSON objects.
select hotpath.park_runs($1, $2, $3, $4, $5, $6::jsonb[])
