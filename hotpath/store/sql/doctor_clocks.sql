-- How the clocks of hosts differ from this one: of each, what one of those who are up there saw, the one that is surest. $1 seconds after which a
-- server that says nothing is not up.
select distinct on (c.host) c.* from (
    select w.host, 'worker ' || w.name as seen_by, w.clock_apart as apart, w.clock_unsure as unsure, w.last_ping as said_at
    from hotpath.worker w where w.stopped_at is null and w.lease_until > now()
    union all
    select s.host, 'hotpath serve, process ' || s.pid, s.clock_apart, s.clock_unsure, s.said_at
    from hotpath.server s where s.said_at > now() - $1::float8 * interval '1 second') c
where c.apart is not null order by c.host, c.unsure
