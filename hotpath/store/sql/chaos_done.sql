-- Jobs of these tags that have ended, by id, a page at a time. $1 tags; $2 ended since; $3, $4 id and end of the last one seen; $5 how many.
select d.id, d.done_at, d.state, d.attempt, d.priority, (extract(epoch from d.scheduled_for) * 1000000)::int8 as scheduled_us,
    d.error ->> 'kind' as kind, d.result::text as result, d.worker
from hotpath.job_done d
where d.tag = any ($1::int8[]) and d.done_at >= $2::timestamptz and (d.id, d.done_at) > ($3::uuid, $4::timestamptz)
order by d.id, d.done_at limit $5
