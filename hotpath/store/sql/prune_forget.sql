-- What was noted of days whose partitions are gone. A day's objects are noted as long as there are any.
delete from hotpath.pruned p where p.part !~ '^log_moved_' and to_regclass('hotpath.' || p.part) is null
    or p.part ~ '^log_moved_' and not exists (select from hotpath.log_object o where o.day = to_date(right(p.part, 8), 'YYYYMMDD'))
