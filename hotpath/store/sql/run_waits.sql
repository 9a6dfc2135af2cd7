-- What a run waits for, as far as was noted: times that have not come, answers, jobs. $1 run; $2 how many jobs at most.
select split_part(m.key, ':', 1) as kind, hotpath.step_of_mark(m.key) as key, null::uuid as id, null::text as script, null::text as state,
    to_timestamp((m.value ->> 'until')::numeric / 1000000) as until, (m.value ->> 'required')::int4 as required,
    (select count(*) from hotpath.flow_event e where e.run = m.run and e.key = hotpath.step_of_mark(m.key))::int4 as said, m.value -> 'form' as form, null::text as tag, m.at as since
from hotpath.mark m
where m.run = $1::uuid and split_part(m.key, ':', 1) in ('sleep', 'suspend', 'retry')
    and coalesce((m.value ->> 'until')::numeric > extract(epoch from now()) * 1000000, m.value ->> 'required' is not null)
    and (m.value ->> 'required' is null or (
        (select count(*) from hotpath.flow_event e where e.run = m.run and e.key = hotpath.step_of_mark(m.key)) < (m.value ->> 'required')::int8
        and not exists (select from hotpath.flow_event e where e.run = m.run and e.key = hotpath.step_of_mark(m.key) and not e.approved)))
union all
select 'child', c.key, c.id, j.script, j.state, null, null, null, null, j.tag, null
from (select * from hotpath.flow_child c where c.run = $1 and not c.done order by c.id limit $2::int4) c cross join lateral hotpath.job_get(c.id) j
