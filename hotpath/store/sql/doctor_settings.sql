-- Settings of this session: their values in base units. $1 names.
select s.name, s.setting, s.unit, s.source from pg_catalog.pg_settings s where s.name = any ($1::text[])
