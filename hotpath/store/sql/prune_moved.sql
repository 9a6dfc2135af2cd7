-- Takes away what leads to logs that have moved, of some objects of one day. $1 day; $2 objects above this; $3 how many; $4 scripts whose logs go.
with hint as materialized (select set_config('synchronous_commit', 'off', true)),
objects as materialized (
    select o.id from hotpath.log_object o where o.day = $1::date and o.id > $2::int8 and o.stored and (select true from hint) is not null order by o.id limit $3::int8
),
meant as materialized (
    select m.ctid as at from objects o join hotpath.log_moved m on m.object = o.id
    join lateral (select d.script, d.parent from hotpath.job_done d where d.id = m.id and d.done_at >= m.done_at limit 1) j on true
    where j.script = any ($4::int4[]) and (j.parent is null or not hotpath.goes_on(j.parent))
),
gone as (delete from hotpath.log_moved m using meant where m.ctid = meant.at returning 1)
select (select count(*) from gone) as logs, (select max(o.id) from objects o) as last
