-- Of leases whose flush was refused, those whose outcomes are there all the same: the reply to an earlier, equal flush was lost.
-- $1 worker; $2 leases; $3 a job of each that the flush ended, $4 and the number of its attempt.
select u.lease from unnest($2::int8[], $3::uuid[], $4::int4[]) as u (lease, job, attempt)
where exists (select from hotpath.job_done d where d.id = u.job and d.worker = $1::int4 and d.attempt = u.attempt
        and d.done_at >= hotpath.uuid_time(u.job) - interval '5 minutes')
    or exists (select from hotpath.job_attempt a where a.id = u.job and a.worker = $1 and a.attempt = u.attempt
        and a.done_at >= hotpath.uuid_time(u.job) - interval '5 minutes')
