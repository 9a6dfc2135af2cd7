-- What of runs has to do with the secrets of their steps. $1 ids of runs.
select n.id, j.script, j.args, j.parent
from unnest($1::uuid[]) n (id) cross join lateral hotpath.job_get(n.id) j
