-- Drop cached results whose time is over. $1 how many at most.
delete from hotpath.flow_cache c where c.key = any (array(
    select o.key from hotpath.flow_cache o where o.until < now() order by o.until limit $1 for update skip locked))
