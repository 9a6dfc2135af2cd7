-- Be the one that drops what is not kept, for $2 seconds from now; again to go on. $1 who. Whether nobody else is.
with taken as (
    update hotpath.pruning set holder = $1::text, until = clock_timestamp() + $2::float8 * interval '1 second'
    where holder is null or holder = $1 or until < clock_timestamp() returning 1
)
select exists (select from taken)
