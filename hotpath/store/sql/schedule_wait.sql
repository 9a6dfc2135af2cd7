-- Seconds until the next tick of any schedule (null: there is none), and whether a tick waits for a job to end.
select extract(epoch from min(s.next_at) - clock_timestamp())::float8 as seconds,
    exists (select from hotpath.schedule h where h.enabled and h.held_at is not null) as holds
from hotpath.schedule s where s.enabled and s.next_at is not null
