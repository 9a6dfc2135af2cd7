-- A worker is busy: enqueuers need not notify it. $1 worker.
delete from hotpath.doze where worker = $1::int4
