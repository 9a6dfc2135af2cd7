-- Jobs that wait in sealed batches, the newest first. Parameters as `list_loose` without its $6: no step is in one. Batches are opened one after the
-- other, by their primary key, until there are enough jobs; args are taken out of their array only for those.
with j as materialized (
    select b.base, b.script, b.tag, b.priority, b.scheduled_for, k, hotpath.job_id(b.base, k) as id, b.args
    from (select * from hotpath.batch
          where ids is null and next < n and base < $1 and base >= hotpath.batch_of($2)
            and ($3::int4 is null or script = $3) and ($4::int8 is null or tag = $4)) b
    cross join lateral generate_series(b.n - 1, b.next, -1) k
    where (b.skip is null or get_bit(b.skip, k) = 0) and hotpath.job_id(b.base, k) < $1 and hotpath.job_id(b.base, k) >= $2
    order by b.base desc, k desc limit $5
)
select j.id, s.name as script, hotpath.tag_name(j.tag) as tag, 'queued' as state, j.priority::int4 as priority, j.scheduled_for,
    hotpath.uuid_time(j.id) as created_at, null::timestamptz as started_at, null::timestamptz as finished_at, null::float8 as duration_ms,
    null::text as worker, 0 as attempt,
    case when $6::boolean then coalesce(j.args[j.k + 1], (select p.args from hotpath.payload p where p.id = j.id)) end as args,
    null::json as result, null::json as error,
    coalesce(v.kind, 'script') as kind, null::uuid as parent, null::text as step, null::text as iteration
from j join hotpath.script s on s.id = j.script left join hotpath.script_version v on v.id = s.version
order by j.id desc
