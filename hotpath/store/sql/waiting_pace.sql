-- How long a job of this script and tag has taken lately: $1 script, $2 tag, $3 minutes to look back. From the sums by minute.
select sum(busy_us)::int8 as busy_us, sum(success + failure + canceled + retried)::int8 as jobs
from hotpath.minute where minute >= now() - $3::int4 * interval '1 minute' and script = $1::int4 and tag = $2::int8
