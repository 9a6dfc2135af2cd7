-- Cancel the jobs that a run has left, if it has ended. $1 run.
select hotpath.cancel_below($1) where not exists (select from hotpath.job_get($1) j where j.state in ('queued', 'running'))
