-- Let those who watch know what jobs have printed. $1 job, $2 attempt, $3 position and $4 position behind its end, $5 text of each; $6 its
-- times, as an array's literal; $7 what to tell the listeners: jobs, with spaces between, or `*` for too many.
with said as (
    insert into hotpath.live_log (job, attempt, at, until, text, times)
    select u.job, u.attempt, u.at, u.until, u.text, u.times::int8[]
    from unnest($1::uuid[], $2::int2[], $3::int8[], $4::int8[], $5::text[], $6::text[]) as u (job, attempt, at, until, text, times)
)
select pg_notify('hotpath_log', $7::text)
