-- What of a job's log is in object storage. $1 id.
select m.attempt, m.seq, m.marks, m.at, m.size, o.name, o.store
from hotpath.log_moved m join hotpath.log_object o on o.id = m.object where m.id = $1::uuid order by m.attempt, m.seq
