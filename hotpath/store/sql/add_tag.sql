-- Remembers the name of a tag. $1 name.
insert into hotpath.tag (id, name) values (hotpath.tag_id($1), $1) on conflict do nothing
