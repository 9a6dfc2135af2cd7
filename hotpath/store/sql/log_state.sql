-- How a job has ended: 1 success, 2 failure, 3 canceled; no row: it has not, or is unknown. $1 job.
select d.state::int4 from hotpath.job_done d where d.id = $1::uuid and d.done_at >= hotpath.uuid_time($1) - interval '5 minutes'
