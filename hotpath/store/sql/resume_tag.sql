-- Resume a tag; false: it was not paused. $1 tag.
select hotpath.resume_tag($1)
