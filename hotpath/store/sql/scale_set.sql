-- The scale of the group $1: $2 min; $3 max; $4 target, $5 cool-down, seconds; $6 utilisation; $7 processes of one command; $8 patterns of tags or null.
insert into hotpath.scale (worker_group, min_workers, max_workers, target_seconds, cooldown_seconds, utilisation, processes, tags)
values ($1, $2::int4, $3::int4, $4::float8, $5::float8, $6::float8, $7::int4, $8::text[])
on conflict (worker_group) do update set min_workers = excluded.min_workers, max_workers = excluded.max_workers, target_seconds = excluded.target_seconds,
    cooldown_seconds = excluded.cooldown_seconds, utilisation = excluded.utilisation, processes = excluded.processes, tags = excluded.tags, updated_at = now()
