-- Objects that nothing leads to any more, of days that are over. $1 how many.
select o.id, o.store, o.name from hotpath.log_object o
where o.stored and o.day < (now() at time zone 'UTC')::date and not exists (select from hotpath.log_moved m where m.object = o.id) order by o.day, o.id limit $1::int8
