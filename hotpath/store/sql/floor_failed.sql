-- `floor_done` for the states that are rare: `state <> 1` is what the index job_done_failed holds.
select (select id from hotpath.job_done where id < $1::uuid and id >= $2::uuid and done_at >= $3::timestamptz and state <> 1
        order by id desc offset $4::int8 limit 1) as floor
