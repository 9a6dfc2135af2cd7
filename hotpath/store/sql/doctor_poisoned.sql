-- Jobs that have failed because they killed their worker each time, the last first. $1 the oldest id to look at; $2 how many; $3 how far to look.
select f.id, s.name as script, f.done_at, count(*) over () as all
from (select d.id, d.script, d.done_at, d.error from hotpath.job_done d where d.id >= $1::uuid and d.done_at >= hotpath.uuid_time($1) - interval '5 minutes'
      and d.state <> 1 order by d.id desc limit $3::int8) f
join hotpath.script s on s.id = f.script where f.error ->> 'kind' = 'crash' order by f.id desc limit $2::int8
