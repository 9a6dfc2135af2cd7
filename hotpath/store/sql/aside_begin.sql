-- Something runs that was never enqueued. $1 script, made if need be, and $2 its tag; $3 seconds ago that it began; $4 args. Its id is from then, as
-- those of other jobs are from when they were enqueued. No row: the script was just being made by somebody else.
with made as (
    insert into hotpath.script (name, tag) values ($1, hotpath.tag_id($2)) on conflict (name) do nothing returning id
),
s as (select id from made union all select id from hotpath.script where name = $1 limit 1),
t as (select clock_timestamp() - $3::float8 * interval '1 second' as began),
n as (
    select encode(overlay(uuid_send(gen_random_uuid()) placing int8send(((u / 1000) << 16) | 28672 | ((u % 1000) * 4096 / 1000)) from 1 for 8), 'hex')::uuid as id
    from (select (extract(epoch from began) * 1000000)::int8 as u from t) c
)
insert into hotpath.aside (id, script, tag, args, started_at) select n.id, s.id, hotpath.tag_id($2), $4::text::json, t.began from n, t, s returning id
