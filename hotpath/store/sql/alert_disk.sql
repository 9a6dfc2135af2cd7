-- Whether the bound of the tables' size was met: whether it is held (null: nobody has looked, or there is none), and which days went for its sake within
-- the last hour.
select disk_bytes as bytes, disk_bound as bound, case when disk_bound is not null then disk_held end as held,
    case when disk_at > now() - interval '1 hour' then disk_dropped end as dropped from hotpath.pruning
