-- End attempts of jobs one by one, apart from the flush: those that are to run again, crashes, time-outs, completions. The lease stays, with
-- these places done, so that sending it twice changes nothing.
-- $1 worker; $2 lease, $3 place in it and $4 state of each: 1 success, 2 failure, 3 canceled, 4 failed and runs again, 5 killed its worker;
-- $5 start in microseconds since the epoch by the database's clock; $6 duration in microseconds; $7 results and errors as one JSON
-- array, as UTF-8; $8 seconds until it runs again (null: when its turn comes); $9 log; $10 its marks, as an
-- array's literal. $5, $6, $9 and $10 may hold nulls.
with v as materialized (
    select distinct on (u.lease, u.place) u.*
    from rows from (unnest($2::int8[]), unnest($3::int4[]), unnest($4::int2[]), unnest($5::int8[]), unnest($6::int8[]),
        json_array_elements(convert_from($7::bytea, 'UTF8')::json), unnest($8::float8[]), unnest($9::text[]), unnest($10::text[]))
        with ordinality as u (lease, place, state, started, duration, outcome, delay, log, marks, ord)
    order by u.lease, u.place, u.ord
),
l as materialized (
    select l.* from hotpath.lease l where l.id = any ($2) and l.worker = $1::int4 order by l.id for update of l
),
b as materialized (
    select * from hotpath.batch where base = any (array(select batch from l)) order by base for update
),
-- `becomes`: what is to be written; a third crash ends the job, and so does a cancel that somebody asked for, where it would run again.
j as materialized (
    select v.lease, v.place, v.state, coalesce(b.ids[k + 1], hotpath.job_id(b.base, k)) as id, b.tag, b.script,
        coalesce(b.scheduled[k + 1], b.scheduled_for) as scheduled_for, coalesce(b.priorities[k + 1], b.priority) as priority,
        coalesce(b.attempts[k + 1], 0) + 1 as attempt, b.crashes[k + 1] as crashes, b.timeouts[k + 1] as timeout_ms, b.args[k + 1] as args, b.keys[k + 1] as limit_key,
        timestamptz 'epoch' + v.started * interval '1 microsecond' as started_at, v.duration, v.outcome, v.delay, v.log, v.marks,
        case when v.state = 5 and coalesce(b.crashes[k + 1], 0) >= 2 then 2
            when v.state >= 4 then case when l.cancels is not null and get_bit(l.cancels, v.place) = 1 then 3 else 4 end
            else v.state end as becomes
    from v join l on l.id = v.lease join b on b.base = l.batch cross join lateral (select l.lo + v.place as k) o
    where v.place >= 0 and v.place < l.hi - l.lo and (b.skip is null or get_bit(b.skip, k) = 0) and (l.done is null or get_bit(l.done, v.place) = 0)
        -- As many outcomes as places, or an error (a division by zero).
        and case when v.outcome is null then 1 / (k - k) = 1 else true end
),
ended as (
    insert into hotpath.job_done (id, started_at, duration_us, scheduled_for, tag, script, worker, priority, attempt, state, args, result, error, timeout_ms)
    select id, started_at, duration, scheduled_for, tag, script, $1, priority, attempt, becomes, args, case when becomes = 1 then outcome end,
        case when becomes = 3 and state <> 3 then hotpath.error_object('JobCanceled', 'canceled while it ran', 'canceled') when becomes <> 1 then outcome end, timeout_ms
    from j where becomes <> 4
    returning id
),
tried as (
    insert into hotpath.job_attempt (id, started_at, duration_us, worker, attempt, state, error)
    select id, started_at, duration, $1, attempt, 2, outcome from j where becomes = 4
),
back as (
    insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, attempt, crashes, suspect, timeout_ms, args, limit_key)
    select id, case when delay is null then scheduled_for else now() + delay * interval '1 second' end, tag, script, priority, attempt,
        case when state = 5 then coalesce(crashes, 0) + 1 else crashes end, case when state = 5 then 3 end, timeout_ms, args, limit_key
    from j where becomes = 4
    returning tag, scheduled_for
),
logged as (insert into hotpath.job_log (id, attempt, text, marks) select id, attempt, log, marks::int8[] from j where log is not null),
part as (
    update hotpath.lease t set done = hotpath.set_bits(l.done, l.hi - l.lo, p.places)
    from l join (select lease, array_agg(place) as places from j group by lease) p on p.lease = l.id
    where t.id = l.id
),
woken as materialized (
    select pg_notify('hotpath', t.tag || ' back') from (select distinct tag from back where scheduled_for <= now()) t
    where exists (select from hotpath.doze d where d.tag = t.tag and d.until > now())
),
told as materialized (
    select hotpath.tell(array_agg(w.job), array_agg(w.client)) from hotpath.waiter w where w.job in (select id from ended) having count(*) > 0
)
select (select count(*) from j) as accepted, (select count(*) from back) as jobs, (select count(*) from ended) as ended,
    (select count(*) from woken) + (select count(*) from told) as told
