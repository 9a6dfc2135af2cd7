-- Clients that died left their marks.
delete from hotpath.waiter where until < clock_timestamp() - interval '1 minute'
