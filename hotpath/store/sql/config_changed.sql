-- Says that something of the configuration has changed: the last statement of its transaction. $1 kind and name.
select hotpath.config_changed($1)
