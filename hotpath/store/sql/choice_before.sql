-- The version that was current before the current one, as a roll back sees it: one that was rolled back to stands where it was. $1 script.
with last as (
    select n, version, back_to from hotpath.version_choice where script = $1::int4 order by n desc limit 1
)
select c.n, c.version from hotpath.version_choice c, last
where c.script = $1 and c.n < coalesce(last.back_to, last.n) and c.version <> last.version
order by c.n desc limit 1
