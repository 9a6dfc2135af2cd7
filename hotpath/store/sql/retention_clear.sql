-- Says nothing any more of how long a script's things are kept ($1; empty: all scripts' things). Whether something was said.
with gone as (delete from hotpath.retention where script = $1::text returning 1)
select exists (select from gone)
