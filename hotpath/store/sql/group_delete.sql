-- A group is no longer configured. $1 name.
delete from hotpath.worker_group where name = $1
