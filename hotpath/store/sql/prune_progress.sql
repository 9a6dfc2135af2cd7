-- How far each day has been gone through.
select part, jobs, results, args, at, until, passed_over, changed_at < now() - interval '1 hour' as old from hotpath.pruned
