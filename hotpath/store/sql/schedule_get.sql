-- One schedule. $1 name.
select * from hotpath.schedule where name = $1
