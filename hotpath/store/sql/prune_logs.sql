-- Takes away logs in some blocks of one day that is over. $1, $2 begin and end of the day; $3 first block; $4 block behind the last; $5 scripts whose
-- logs go. A log is most often written with its job's end; that of a job that has not ended stays.
with hint as materialized (select set_config('synchronous_commit', 'off', true)),
meant as materialized (
    select g.ctid as at, j.parent from hotpath.job_log g
    join lateral (
        (select d.script, d.parent from hotpath.job_done d where d.id = g.id and d.done_at = g.done_at)
        union all
        (select d.script, d.parent from hotpath.job_done d where d.id = g.id and d.done_at > g.done_at limit 1)
        limit 1) j on true
    where g.done_at >= $1::timestamptz and g.done_at < $2::timestamptz and g.ctid >= format('(%s,0)', $3::int8)::tid and g.ctid < format('(%s,0)', $4::int8)::tid
        and j.script = any ($5::int4[])
),
locked as materialized (
    select g.ctid as at from meant m join hotpath.job_log g on g.ctid = m.at and g.done_at >= $1 and g.done_at < $2
    where (m.parent is null or not hotpath.goes_on(m.parent)) and (select true from hint) is not null
    for update of g skip locked
),
gone as (delete from hotpath.job_log g using locked l where g.ctid = l.at and g.done_at >= $1 and g.done_at < $2 returning 1)
select (select count(*) from gone) as logs, (select count(*) from meant) - (select count(*) from locked) as passed_over
