-- `floor_done` for jobs that wait: the higher one of loose jobs and of sealed batches. $1 before this id, $2 from this id on, $3 rows.
select greatest(
    (select id from hotpath.job_queue where id < $1::uuid and id >= $2::uuid order by id desc offset $3::int8 limit 1),
    (select base from hotpath.batch where ids is null and next < n and base < $1 and base >= hotpath.batch_of($2) order by base desc offset $3 limit 1)) as floor
