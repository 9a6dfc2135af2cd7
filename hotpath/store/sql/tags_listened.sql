-- Known tags that these patterns listen to, by name, at most $2. $1 patterns.
select t.id, t.name from (
    select t.id, t.name from hotpath.tag t union select s.id, s.name from hotpath.tag_seen s) t
where hotpath.tag_listened(t.name, $1::text[]) order by t.name limit $2::int8
