-- Forgets a schedule and which jobs were its; no row: there is none. The jobs stay. $1 name.
with gone as (delete from hotpath.schedule where name = $1 returning id),
ticks as (delete from hotpath.schedule_tick t using gone g where t.schedule = g.id)
select id from gone
