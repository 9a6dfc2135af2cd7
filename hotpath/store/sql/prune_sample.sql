-- About how much of a day would go. $1, $2 its begin and end; $3 percent of its blocks that are looked at; $4 scripts whose jobs go; $5 whose results;
-- $6 whose args. Of what was looked at: rows, and bytes as they are stored.
select count(*) filter (where d.script = any ($4::int4[])) as jobs,
    coalesce(sum(pg_column_size(d.*)) filter (where d.script = any ($4)), 0)::int8 as jobs_bytes,
    count(*) filter (where d.script = any ($5::int4[]) and d.result is not null) as results,
    coalesce(sum(pg_column_size(d.result)) filter (where d.script = any ($5)), 0)::int8 as results_bytes,
    count(*) filter (where d.script = any ($6::int4[]) and d.args is not null) as args,
    coalesce(sum(pg_column_size(d.args)) filter (where d.script = any ($6)), 0)::int8 as args_bytes
from hotpath.job_done d tablesample system ($3::float4)
where d.done_at >= $1::timestamptz and d.done_at < $2::timestamptz
