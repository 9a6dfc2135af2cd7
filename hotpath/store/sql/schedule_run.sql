-- A tick by hand; null: there is no such schedule. $1 name.
select hotpath.run_schedule($1)
