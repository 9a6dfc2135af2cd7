-- A script, locked; $1 name.
select s.id, s.name, s.version from hotpath.script s where s.name = $1 and s.pin_of is null for update
