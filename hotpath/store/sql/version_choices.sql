-- When each version of a script was made current, by whom; the last first. $1 script.
select c.version, c.at, c.made_by, c.back_to is not null as rolled_back from hotpath.version_choice c where c.script = $1::int4 order by c.n desc
