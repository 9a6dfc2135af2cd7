-- Nobody of this client waits for these jobs any more. $1 client, $2 jobs. A mark that comes back with a server that has forgotten this goes
-- stale by itself.
with hint as materialized (select set_config('synchronous_commit', 'off', true))
delete from hotpath.waiter w using unnest($2::uuid[]) as u (job) cross join hint where w.job = u.job and w.client = $1
