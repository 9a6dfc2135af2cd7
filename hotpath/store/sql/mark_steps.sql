-- Say when what stands in the logs of steps was written: right behind the note of them. $1 ids; $2 attempts; $3 marks, as an array's literal.
update hotpath.job_log g set marks = u.marks::int8[]
from unnest($1::uuid[], $2::int2[], $3::text[]) as u (id, attempt, marks)
where u.marks is not null and g.id = u.id and g.attempt = u.attempt and g.seq = 0 and g.done_at >= hotpath.uuid_time(u.id) - interval '5 minutes'
