-- A server has ended. $1 id.
delete from hotpath.server where id = $1
