-- Drop traces after 14 days. $1 how many at most.
delete from hotpath.trace t where t.job = any (array(
    select o.job from hotpath.trace o where o.at < now() - interval '14 days' order by o.at limit $1 for update skip locked))
