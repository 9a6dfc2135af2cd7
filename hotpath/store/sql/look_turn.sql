-- Takes the minute of $1 (null: now) for whoever asks first: `is_mine`; and how many seconds of it are left.
with mine as (
    insert into hotpath.queue_look (minute) select date_trunc('minute', coalesce($1::timestamptz, now()))
    where not exists (select from hotpath.queue_look where minute = date_trunc('minute', coalesce($1, now())))
    on conflict do nothing returning minute
)
select (select minute from mine) as minute, 60 - extract(second from clock_timestamp())::float8 as seconds
