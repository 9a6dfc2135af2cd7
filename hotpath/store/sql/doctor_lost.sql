-- Workers whose lease is over for more than $1 seconds and that hold jobs nobody has taken back.
select w.name, w.host, w.last_ping, count(*) as leases from hotpath.worker w join hotpath.lease l on l.worker = w.id
where w.lease_until < now() - $1::float8 * interval '1 second' group by w.id order by w.last_ping
