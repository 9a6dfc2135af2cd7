-- Servers that are up. $1 seconds after which one that says nothing is not.
select s.host, s.pid, s.program, s.address, s.is_loopback, s.is_open, s.is_secure, s.started_at, s.said_at
from hotpath.server s where s.said_at > now() - $1::float8 * interval '1 second' order by s.host, s.address
