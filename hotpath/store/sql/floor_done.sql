-- How far down a list may look at once: id of the job that has ended $4 rows below $1, from $2 on, done_at not before $3; null: there are fewer.
select (select id from hotpath.job_done where id < $1::uuid and id >= $2::uuid and done_at >= $3::timestamptz order by id desc offset $4::int8 limit 1) as floor
