-- What was noted of these runs; no row for a run of which nothing was. $1 runs. Of a run without a row in flow_run only its steps can be
-- there: two probes, of flow_run and of job_done, in the partitions since the run was made. Where `checkpoint` and `step` know the same
-- key, `step` is the later.
with r as materialized (
    select u.run, f.id is not null as known, f.generation,
        greatest(hotpath.uuid_time(u.run) - interval '5 minutes', f.since, f.copied - interval '5 minutes') as since
    from unnest($1::uuid[]) as u (run) left join hotpath.flow_run f on f.id = u.run
),
k as materialized (select run, generation from r where known)
select k.run, 'run' as kind, null::text as key, null::uuid as id, k.generation as state, null::bytea as value, null::bytea as args from k
union all
select k.run, 'checkpoint', c.key, c.id, c.state, convert_to(c.outcome::text, 'UTF8'), convert_to(c.args::text, 'UTF8')
from k join hotpath.checkpoint c on c.run = k.run
union all
select s.run, 'step', s.step, s.id, s.state, convert_to(s.outcome::text, 'UTF8'), convert_to(s.args::text, 'UTF8')
from (
    select distinct on (r.run, d.step) r.run, d.step, d.id, d.state, coalesce(d.result, d.error) as outcome, d.args
    from r join hotpath.job_done d on d.parent = r.run and d.done_at >= r.since
    where d.done_at < now() + interval '1 hour'
    order by r.run, d.step, d.done_at desc) s
union all
select k.run, 'mark', m.key, null, null, convert_to(m.value::text, 'UTF8'), null from k join hotpath.mark m on m.run = k.run
union all
select e.* from (
    select k.run, 'event', e.key, null::uuid, null::int2,
        convert_to(json_build_object('approved', e.approved, 'payload', e.payload, 'approver', e.approver)::text, 'UTF8'), null::bytea
    from k join hotpath.flow_event e on e.run = k.run order by e.at, e.nonce) e
union all
select k.run, 'child', c.key, c.id, case when c.done then coalesce(p.state, 2::int2) else 0::int2 end, convert_to(p.outcome::text, 'UTF8'), null
from k join hotpath.flow_child c on c.run = k.run left join hotpath.checkpoint p on p.run = c.run and p.key = c.key and p.id = c.id and c.done
