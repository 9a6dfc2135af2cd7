-- Key of a tag. $1 name.
select hotpath.tag_id($1)
