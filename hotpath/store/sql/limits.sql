-- Limits of scripts, by name. $1 script (null: all that have one, or one set by command). `said`: what the version says; `running`: places taken;
-- `started`: of a rate, starts that count now.
select s.name as script, s.limits, v.settings -> 'limit' as said, o.limits as set, o.set_by, o.set_at,
    case when s.limit_scope is not null then hotpath.limit_used(s.limit_scope) else 0 end as running,
    case when s.limits ? 'rate' then (select coalesce(sum(g.n), 0) from hotpath.limit_start g where g.scope = s.limit_scope
        and (g.begun is null or g.begun > clock_timestamp() - (s.limits ->> 'seconds')::float8 * interval '1 second'))::int8 end as started
from hotpath.script s left join hotpath.script_version v on v.id = s.version left join hotpath.limit_override o on o.script = s.id
where case when $1::text is null then s.limits is not null or o.script is not null else s.name = $1 end
order by s.name
