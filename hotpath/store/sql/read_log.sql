-- A job's stored log from a position on. $1 job; $2 attempt; $3 position; $4 characters, about. A row is a part of one row of job_log: where
-- in the log that begins, its marks, where in its text the part begins, the part, whether more of it follows; and when the attempt started.
-- Without a part: the text has moved to an object, where it takes `size` bytes from byte `place` on; `take` characters of it are the part.
with r as (
    select g.attempt, g.seq, g.done_at, g.marks, char_length(g.text)::int8 as size,
        char_length(g.text) + case when g.marks[2] > 0 then g.marks[2] - g.marks[3] else 0 end as span,
        null::int8 as object, null::int8 as place, null::int4 as bytes
    from hotpath.job_log g
    where g.id = $1::uuid and g.attempt >= $2::int2 and g.done_at >= hotpath.uuid_time($1) - interval '5 minutes'
    union all
    select m.attempt, m.seq, m.done_at, m.marks, m.chars, m.chars + case when m.marks[2] > 0 then m.marks[2] - m.marks[3] else 0 end, m.object, m.at, m.size
    from hotpath.log_moved m where m.id = $1 and m.attempt >= $2
),
placed as (
    select r.*, (sum(r.span) over (partition by r.attempt order by r.seq) - r.span)::int8 as at from r
),
wanted as (
    select p.*, case when p.attempt > $2 or $3::int8 <= p.at then 0
        when p.marks is null or p.marks[2] = 0 or $3 - p.at < p.marks[1] then $3 - p.at
        when $3 - p.at < p.marks[1] + p.marks[2] then p.marks[1]
        else $3 - p.at - p.marks[2] + p.marks[3] end as skip
    from placed p where p.attempt > $2 or p.at + p.span > $3
),
counted as (
    select w.*, sum(w.size - w.skip) over (order by w.attempt, w.seq) - (w.size - w.skip) as before from wanted w
)
select c.attempt::int4 as attempt, c.at, c.marks, c.skip, substring(g.text from c.skip::int4 + 1 for ($4::int8 - c.before)::int4) as text,
    o.store, o.name as object, c.place, c.bytes as size, ($4 - c.before)::int8 as take,
    c.size > c.skip + $4 - c.before as cut,
    (extract(epoch from coalesce(
        case when c.seq = 0 then coalesce(
            (select d.started_at from hotpath.job_done d where d.id = $1 and d.attempt = c.attempt and d.done_at >= hotpath.uuid_time($1) - interval '5 minutes'),
            (select a.started_at from hotpath.job_attempt a where a.id = $1 and a.attempt = c.attempt and a.done_at >= hotpath.uuid_time($1) - interval '5 minutes')) end,
        c.done_at)) * 1000)::int8 as started
from counted c
left join hotpath.log_object o on o.id = c.object
left join hotpath.job_log g on c.object is null and g.id = $1 and g.attempt = c.attempt and g.seq = c.seq and g.done_at = c.done_at
where c.before < $4 and (c.object is not null or g.id is not null)
order by c.attempt, c.seq
