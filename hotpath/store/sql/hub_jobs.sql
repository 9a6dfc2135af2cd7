-- How these jobs stand: nothing that is large, so that many can be looked at often. $1 ids; those that nobody knows are left out.
select j.id, j.state, j.attempt, j.scheduled_for, j.started_at, j.finished_at, j.worker, j.priority, j.kind
from unnest($1::uuid[]) wanted cross join lateral hotpath.job_get(wanted) j
