-- What `$workspace` stands for in tags and keys.
select workspace from hotpath.meta
