-- A listener sends itself a notification, to see that it hears. $1 its own channel; $2 what it will hear.
select pg_notify($1, $2)
