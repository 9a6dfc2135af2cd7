-- Keys of what a listing is narrowed to. $1 script, $2 tag (each may be null).
select (select id from hotpath.script where name = $1) as script, hotpath.tag_id($2) as tag
