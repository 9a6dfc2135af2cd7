-- About how many bytes of logs there are in some percent ($3) of the blocks of a day. $1, $2 its begin and end.
select coalesce(sum(70 + least(pg_column_size(g.text), 2000)), 0)::int8 as bytes
from hotpath.job_log g tablesample system ($3::float4) where g.done_at >= $1::timestamptz and g.done_at < $2::timestamptz
