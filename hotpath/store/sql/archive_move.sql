-- The object is stored: its logs leave the database. One that is gone meanwhile is not brought back. $1 object; $2 its bytes; $3 ids; $4 attempts;
-- $5 seqs; $6 when they were written; $7 where each begins in the object, $8 its bytes there, $9 characters of its text. Gives how many have
-- moved.
with gone as (
    delete from hotpath.job_log g
    using unnest($3::uuid[], $4::int2[], $5::int4[], $6::timestamptz[]) as u (id, attempt, seq, done_at)
    where g.id = u.id and g.attempt = u.attempt and g.seq = u.seq and g.done_at = u.done_at
    returning g.id, g.attempt, g.seq, g.done_at, g.marks
),
moved as (
    insert into hotpath.log_moved (id, attempt, seq, object, at, size, chars, done_at, marks)
    select g.id, g.attempt, g.seq, $1::int8, u.at, u.size, u.chars, g.done_at, g.marks
    from gone g join unnest($3, $4, $5, $7::int8[], $8::int4[], $9::int4[]) as u (id, attempt, seq, at, size, chars)
        on u.id = g.id and u.attempt = g.attempt and u.seq = g.seq
    returning 1
)
update hotpath.log_object o set stored = true, bytes = $2::int8, logs = (select count(*) from moved) where o.id = $1
returning o.logs
