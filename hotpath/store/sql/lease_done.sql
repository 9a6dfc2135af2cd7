-- Whether a job of a lease has an accepted outcome; waits until a transaction that is just giving it one has ended. No row: the lease is gone.
-- $1 lease; $2 the worker that holds it; $3 place of the job in it.
select l.done is not null and get_bit(l.done, $3::int4) = 1 as done from hotpath.lease l where l.id = $1::int8 and l.worker = $2::int4 for update
