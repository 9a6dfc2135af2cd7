-- The group $1 has the defaults again; one row if it had not.
delete from hotpath.scale where worker_group = $1 returning worker_group
