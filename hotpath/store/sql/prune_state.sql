-- Who drops what is not kept, and what came of it last.
select case when until > clock_timestamp() then holder end as holder, ran_at, more, forbidden, disk_at, disk_dropped, disk_bytes, disk_bound, disk_held
from hotpath.pruning
