-- Leases that nobody alive holds: their worker stopped, or let its lease run out by the database's clock.
select l.id from hotpath.lease l left join hotpath.worker w on w.id = l.worker
where w.id is null or w.stopped_at is not null or w.lease_until <= now()
limit 1000
