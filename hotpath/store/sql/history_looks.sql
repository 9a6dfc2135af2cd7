-- Steps of $3 minutes from $1 until before $2 in which somebody looked at the queues; and until when only hours are known.
select date_bin($3::int4 * interval '1 minute', minute, timestamptz '2000-01-01 00:00:00Z') as at, null::timestamptz as rolled
from hotpath.queue_look where minute >= $1::timestamptz and minute < $2::timestamptz group by 1
union all select null, max(until) from hotpath.rolled
