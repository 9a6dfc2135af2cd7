-- Names of the groups that there are.
select g as name from hotpath.scale_groups() g order by g
