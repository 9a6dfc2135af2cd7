-- Ends what is left of this worker's earlier sessions: a broken link may leave one behind that holds rows, or is about to commit.
-- $1 application_name, which holds the worker's id; $2 how long to wait for each, milliseconds.
select count(*) filter (where pg_terminate_backend(pid, $2::int8)) as ended from pg_stat_activity
where application_name = $1 and datname = current_database() and usename = current_user and pid <> pg_backend_pid()
