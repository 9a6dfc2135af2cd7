-- Something has run that was never enqueued, and is a job that has ended: with its log, whose marks are an array's literal (null: none). $1 script,
-- made if need be, and $2 its tag; $3 seconds ago that it began; $4 duration in microseconds; $5 state; $6 args; $7 error (null: none); $8 log (null: none); $9 marks.
-- No row: the script was just being made by somebody else.
with made as (
    insert into hotpath.script (name, tag) values ($1, hotpath.tag_id($2)) on conflict (name) do nothing returning id
),
s as (select id from made union all select id from hotpath.script where name = $1 limit 1),
t as (select clock_timestamp() - $3::float8 * interval '1 second' as began),
-- An id from when it began, as those of other jobs are from when they were enqueued.
n as (
    select encode(overlay(uuid_send(gen_random_uuid()) placing int8send(((u / 1000) << 16) | 28672 | ((u % 1000) * 4096 / 1000)) from 1 for 8), 'hex')::uuid as id
    from (select (extract(epoch from began) * 1000000)::int8 as u from t) c
),
ended as (
    insert into hotpath.job_done (id, started_at, duration_us, scheduled_for, tag, script, priority, attempt, state, args, result, error)
    select n.id, t.began, $4::int8, t.began, hotpath.tag_id($2), s.id, 0, 1, $5::int2, $6::text::json,
        case when $5 = 1 then 'null'::json end, $7::text::json from n, t, s
    returning id
),
logged as (
    insert into hotpath.job_log (id, attempt, text, marks) select e.id, 1, $8, $9::text::int8[] from ended e where $8::text is not null
)
select id from ended
