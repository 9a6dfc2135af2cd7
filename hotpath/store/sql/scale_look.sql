-- Remembers how the group $1 looks now, for the next look to compare with.
select hotpath.scale_look($1)
