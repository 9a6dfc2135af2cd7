-- Objects of a store whose day is before a day that retention keeps. $1 store; $2 day; $3 how many.
select id, name from hotpath.log_object where store = $1::text and day < $2::date order by day limit $3
