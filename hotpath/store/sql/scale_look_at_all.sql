-- The same for all groups with a scale that nobody has looked at just now; how many.
select hotpath.scale_look_at_all()
