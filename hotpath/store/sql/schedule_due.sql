-- Schedules that have something to do, by time. $1 now (null: the database's), $2 how many. `busy`: the job before has not ended, asked where that counts.
select coalesce($1::timestamptz, now()) as now, d.id, d.revision, d.kind, d.expression, d.timezone, d.anchor, d.catch_up, d.catch_up_within, d.overlap,
    d.next_at, d.held_at, d.busy
from (
    (select s.*, b.busy from hotpath.schedule s cross join lateral (select s.overlap <> 'allow' and s.last_job is not null
        and exists (select from hotpath.job_get(s.last_job) j where j.state in ('queued', 'running')) as busy) b
     where s.enabled and s.next_at <= coalesce($1::timestamptz, now()) order by s.next_at limit $2)
    union all
    (select s.*, false from hotpath.schedule s
     where s.enabled and s.held_at is not null and (s.next_at > coalesce($1::timestamptz, now()) or s.next_at is null)
         and not exists (select from hotpath.job_get(s.last_job) j where j.state in ('queued', 'running'))
     limit $2)) d
