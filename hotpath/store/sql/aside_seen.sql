-- $1 still runs: whether somebody wants it to end, how many viewers watch what it prints, and the clock in microseconds. No row: it was ended meanwhile.
update hotpath.aside a set seen_at = now() where a.id = $1
returning a.canceled, (select count(*) from hotpath.watch w where w.job = a.id and w.until > now()) as viewers, (extract(epoch from clock_timestamp()) * 1000000)::int8 as clock
