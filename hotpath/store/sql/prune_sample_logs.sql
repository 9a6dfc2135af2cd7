-- About how many of a day's logs would go. $1, $2 its begin and end; $3 percent of its blocks that are looked at; $4 scripts whose logs go.
select count(*) as logs, coalesce(sum(octet_length(g.text)), 0)::int8 as logs_bytes
from hotpath.job_log g tablesample system ($3::float4)
where g.done_at >= $1::timestamptz and g.done_at < $2::timestamptz
    and (select d.script from hotpath.job_done d where d.id = g.id and d.done_at >= g.done_at limit 1) = any ($4::int4[])
