-- Be it no longer, and say what came of it. $1 who; $2 whether there is more to do; $3 whether the right to drop days was lacking; $4 days dropped
-- for the sake of the disk; $5 bytes, $6 bound, $7 whether it holds.
update hotpath.pruning set holder = null, until = null, ran_at = clock_timestamp(), more = $2::bool, forbidden = $3::bool,
    disk_at = case when cardinality($4::text[]) > 0 then clock_timestamp() else disk_at end,
    disk_dropped = case when cardinality($4) > 0 then $4 else disk_dropped end,
    disk_bytes = $5::int8, disk_bound = $6::int8, disk_held = $7::bool
where holder = $1::text
