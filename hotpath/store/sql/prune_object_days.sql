-- Days that are over of which there are logs in a store: how many objects, and bytes.
select o.day, o.store, count(*) as objects, sum(o.bytes)::int8 as bytes, max(o.id) as last
from hotpath.log_object o where o.stored and o.day < (now() at time zone 'UTC')::date group by o.day, o.store order by o.day, o.store
