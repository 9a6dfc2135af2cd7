-- The numbers that the built-in jobs carry in their args. $1 ids; $2 ended since.
select d.id, (d.args ->> 'n')::int8 as n from unnest($1::uuid[]) as u (id) join hotpath.job_done d on d.id = u.id where d.done_at >= $2::timestamptz
