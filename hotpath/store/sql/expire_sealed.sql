-- End what is left of sealed batches that nobody has claimed in time. $1 how many batches at most.
select hotpath.expire_sealed($1::int4)
