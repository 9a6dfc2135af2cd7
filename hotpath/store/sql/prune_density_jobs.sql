-- About how many bytes of results there are in some percent ($3) of the blocks of a day. $1, $2 its begin and end.
select coalesce(sum(110 + least(coalesce(pg_column_size(d.args), 0), 2000) + least(coalesce(pg_column_size(d.result), 0), 2000)
    + least(coalesce(pg_column_size(d.error), 0), 2000)), 0)::int8 as bytes
from hotpath.job_done d tablesample system ($3::float4) where d.done_at >= $1::timestamptz and d.done_at < $2::timestamptz
