-- Add what a job printed after its completion had been committed to its log, once. $1 job; $2 attempt; $3 text; $4 its marks, as an
-- array's literal.
insert into hotpath.job_log (id, attempt, seq, text, marks)
select $1::uuid, $2::int2, 1, $3::text, $4::text::int8[]
where not exists (select from hotpath.job_log g where g.id = $1 and g.attempt = $2 and g.seq = 1 and g.done_at >= hotpath.uuid_time($1) - interval '5 minutes')
