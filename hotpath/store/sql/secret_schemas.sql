-- Schemas, of whatever version, that mark something of the args as secret. $1 names of scripts.
select s.name, v.schema
from hotpath.script s join hotpath.script_version v on v.script = coalesce(s.pin_of, s.id)
where s.name = any ($1::text[]) and v.schema::text like '%"writeOnly": true%'
