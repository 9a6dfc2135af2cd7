-- An object is about to be written: one that never is stored is found by this row. $1 store; $2 name; $3 day.
insert into hotpath.log_object (store, name, day) values ($1::text, $2::text, $3::date) returning id
