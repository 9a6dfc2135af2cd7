-- Stores a version of a script, unless it is there; returns its id. $1 script, $2 hash, $3 is_async, $4 schema, $5 settings, $6 summary, $7 kind,
-- $8 who.
with added as (
    insert into hotpath.script_version as v (script, hash, is_async, schema, settings, summary, kind, made_by)
    values ($1, $2, $3, $4::jsonb, $5::jsonb, $6, $7, $8)
    on conflict (script, hash) do update set schema = excluded.schema, settings = excluded.settings, is_async = excluded.is_async,
        summary = excluded.summary, kind = excluded.kind
        where (v.schema, v.settings, v.is_async, v.summary, v.kind)
            is distinct from (excluded.schema, excluded.settings, excluded.is_async, excluded.summary, excluded.kind)
    returning v.id, v.created_at
)
select id, created_at from added
union all
select v.id, v.created_at from hotpath.script_version v where v.script = $1 and v.hash = $2 and not exists (select from added)
