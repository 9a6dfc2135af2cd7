-- Makes a version the one that runs and that new jobs are checked against, with its default tag and priority; its script is locked. $1 script, $2 version,
-- $3 tag, $4 priority, $5 who, $6 whether it is deployed, $7 whether it is a roll back, $8 the choice that one goes back to (null: to a named version, which
-- stands behind all that were current before it). Returns whether anything has changed.
with before as materialized (
    select version, tag, priority from hotpath.script where id = $1::int4
),
chosen as (
    update hotpath.script set version = $2::int4, tag = hotpath.tag_id($3), priority = $4::int2,
        deployed_at = case when $6 then now() else deployed_at end
    where id = $1
),
pins as (
    update hotpath.script set tag = hotpath.tag_id($3) where pin_of = $1 and tag <> hotpath.tag_id($3) and $3 not like '%$%'
),
noted as (
    insert into hotpath.version_choice (script, version, made_by, back_to)
    select $1, $2, $5, case when $7 then coalesce($8::int4, (select max(n) + 1 from hotpath.version_choice where script = $1)) end
    from before where version is distinct from $2
)
select (version, tag, priority) is distinct from ($2, hotpath.tag_id($3), $4) from before
