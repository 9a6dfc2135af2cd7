-- Locks one lease of these tags until the transaction ends, and says whether there was one. $1 tags.
select l.id from hotpath.lease l
where exists (select from hotpath.batch b where b.base = l.batch and b.tag = any ($1::int8[]))
limit 1 for update skip locked
