-- The traces that jobs belong to: their own, their batch's or, of one that a run has sent on its way, its run's. $1 ids.
select n.id, coalesce(own.traceparent, run.traceparent) as traceparent
from unnest($1::uuid[]) n (id)
left join lateral (select t.traceparent from hotpath.trace t where t.job in (n.id, hotpath.batch_of(n.id)) limit 1) own on true
left join hotpath.flow_child c on own.traceparent is null and c.id = n.id
left join lateral (select t.traceparent from hotpath.trace t where t.job in (c.run, hotpath.batch_of(c.run)) limit 1) run on true
where own.traceparent is not null or run.traceparent is not null
