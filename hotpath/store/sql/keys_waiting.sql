-- Whether jobs of a script wait that have a key of its limit, and whether jobs have, or had lately, a key of `unique` or `debounce`. $1 name of the
-- script.
select exists (select from hotpath.job_queue q where q.script = s.id and q.limit_key is not null) as limited,
    exists (select from hotpath.unique_job u where u.script = s.id) as "unique"
from hotpath.script s where s.name = $1
