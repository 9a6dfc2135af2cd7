-- End loose jobs that nobody has claimed in time. $1 how many at most.
select hotpath.expire_loose($1::int4)
