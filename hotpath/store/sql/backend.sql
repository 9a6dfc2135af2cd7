-- The process that runs our statements: behind a pooler it is not the one that greeted us.
select pg_backend_pid()
