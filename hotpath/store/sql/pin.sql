-- The name of the script that means one version of another. $1 script, $2 how the version's hash begins; null: the current one.
select hotpath.pin($1, $2)
