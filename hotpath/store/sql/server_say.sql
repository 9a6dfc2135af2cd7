-- A server says that it is up, and how it listens; returns what the time is, in microseconds since the epoch. Those that were killed days ago are
-- forgotten. $1 id, $2 host, $3 pid, $4 version of the program, $5 address, $6 only its machine reaches it, $7 callers need no token, $8 by TLS alone,
-- $9 and $10 the database's clock less its host's, seconds, and by how much that may be wrong (null: not known).
with old as (delete from hotpath.server where said_at < now() - interval '2 days' and id <> $1)
insert into hotpath.server as s (id, host, pid, program, address, is_loopback, is_open, is_secure, clock_apart, clock_unsure)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
on conflict (id) do update set said_at = now(), clock_apart = excluded.clock_apart, clock_unsure = excluded.clock_unsure
returning (extract(epoch from clock_timestamp()) * 1000000)::int8
