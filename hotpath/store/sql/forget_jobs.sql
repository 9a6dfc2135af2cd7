-- Nobody of this client waits for these jobs any more. $1 client, $2 jobs.
delete from hotpath.waiter w using unnest($2::uuid[]) as u (job) where w.job = u.job and w.client = $1
