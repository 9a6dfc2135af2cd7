-- Keep what a job printed before it was parked, in front of what it prints when it goes on. $1 job; $2 attempt; $3 text; $4 its marks, as
-- an array's literal.
insert into hotpath.job_log (id, attempt, seq, text, marks)
select $1::uuid, $2::int2, 1 + coalesce((
    select max(g.seq) from hotpath.job_log g
    where g.id = $1 and g.attempt = $2 and g.seq < 0 and g.done_at >= hotpath.uuid_time($1) - interval '5 minutes'), -1000000), $3::text,
    $4::text::int8[]
