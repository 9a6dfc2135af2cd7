-- What is said of how long things are kept: for all (empty name), and for scripts.
select script, jobs, results, args, logs, disk from hotpath.retention order by script
