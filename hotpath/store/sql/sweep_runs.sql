-- Runs of which something is kept, by id. $1 those above this; $2 how many. Whether each waits in the queue, and whether it has jobs that have
-- not ended.
select f.id, exists (select from hotpath.job_queue q where q.id = f.id) as waits,
    exists (select from hotpath.flow_child c where c.run = f.id and not c.done) as open
from hotpath.flow_run f where f.id > $1 order by f.id limit $2
