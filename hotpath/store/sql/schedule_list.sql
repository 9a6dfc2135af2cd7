-- Schedules by name, a page of them. $1 after this name, $2 script (null: any), $3 how many.
select * from hotpath.schedule where name > $1 and ($2::text is null or script = $2) order by name limit $3
