-- How often the configuration in the database has changed.
select n from hotpath.config_revision
