-- Names to look for a similar one among.
select name from hotpath.script where version is not null and pin_of is null order by id desc limit 5000
