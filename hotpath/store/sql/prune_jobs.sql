-- Takes away what is not kept of the jobs in some blocks of one day that is over. $1, $2 begin and end of the day; $3 first block; $4 block behind the
-- last; $5 scripts whose jobs go; $6 whose results; $7 whose args. Rows that somebody has locked, and steps of runs that go on, are passed over.
with hint as materialized (select set_config('synchronous_commit', 'off', true)),
meant as materialized (
    select d.ctid as at from hotpath.job_done d
    where d.done_at >= $1::timestamptz and d.done_at < $2::timestamptz and d.ctid >= format('(%s,0)', $3::int8)::tid and d.ctid < format('(%s,0)', $4::int8)::tid
        and (d.script = any ($5::int4[]) or d.script = any ($6::int4[]) and d.result is not null
            or d.script = any ($7::int4[]) and (d.args is not null or exists (select from hotpath.payload p where p.id = d.id)))
),
locked as materialized (
    select d.ctid as at, d.id, d.attempt, d.script = any ($5) as goes, d.script = any ($6) as result_goes, d.script = any ($7) as args_go,
        d.result is not null as has_result
    from meant m join hotpath.job_done d on d.ctid = m.at and d.done_at >= $1 and d.done_at < $2
    where (d.parent is null or not hotpath.goes_on(d.parent)) and (select true from hint) is not null
    for update of d skip locked
),
gone as (
    delete from hotpath.job_done d using locked l where d.ctid = l.at and d.done_at >= $1 and d.done_at < $2 and l.goes returning d.id, d.attempt
),
blanked as (
    update hotpath.job_done d set args = case when l.args_go then null else d.args end, result = case when l.result_goes then null else d.result end
    from locked l where d.ctid = l.at and d.done_at >= $1 and d.done_at < $2 and not l.goes
    returning 1
),
payloads as (delete from hotpath.payload p using locked l where p.id = l.id and (l.goes or l.args_go) returning 1),
attempts as (
    delete from hotpath.job_attempt a using gone g
    where g.attempt > 1 and a.id = g.id and a.done_at >= hotpath.uuid_time(g.id) - interval '5 minutes' and a.done_at < $2 returning 1
),
logs as (
    delete from hotpath.job_log g using gone o
    where g.id = o.id and g.done_at >= hotpath.uuid_time(o.id) - interval '5 minutes' and g.done_at < $2::timestamptz + interval '1 day' returning 1
),
moved as (delete from hotpath.log_moved m using gone o where m.id = o.id returning 1)
select (select count(*) from gone) as jobs, (select count(*) from locked where not goes and args_go) as args,
    (select count(*) from locked where not goes and result_goes and has_result) as results,
    (select count(*) from logs) + (select count(*) from moved) as logs,
    (select count(*) from meant) - (select count(*) from locked) as passed_over,
    (select count(*) from blanked) + (select count(*) from payloads) + (select count(*) from attempts) as others
