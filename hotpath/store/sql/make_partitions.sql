-- Partitions for results, attempts and logs, a day each, attached ahead. $1 days.
select hotpath.make_partitions($1::int4)
