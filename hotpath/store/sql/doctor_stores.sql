-- Where logs are that have moved: addresses, and how many objects.
select o.store, count(*) as objects from hotpath.log_object o where o.stored group by o.store order by 1
