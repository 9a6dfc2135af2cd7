-- Drop keys whose 24 hours are over. $1 how many at most.
delete from hotpath.idempotency i where i.key = any (array(
    select o.key from hotpath.idempotency o where o.created_at < now() - interval '24 hours' order by o.created_at limit $1 for update skip locked))
