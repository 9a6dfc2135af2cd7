-- What `$workspace` is to stand for from now on. $1 name.
update hotpath.meta set workspace = $1 returning workspace
