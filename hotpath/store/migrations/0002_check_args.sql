-- Args against the JSON Schema that `hotpath.scripts.args_schema` writes, for those who enqueue from SQL. The verdicts are
-- those of `hotpath.core.schema`; one test asks both. What only Python can tell (a duration, a Decimal's text, a pattern in
-- Python's own dialect) passes here, and the job itself then fails with kind `bad_args`.
--
-- `check_args` runs inside every enqueue, so the common case (flat fields of plain types) is one statement whose filter
-- lets only suspicious fields through; nothing else is looked at one by one.

-- The name of a value's type in messages.
create function hotpath.type_word(value jsonb) returns text language sql immutable parallel safe
return case jsonb_typeof(value)
    when 'number' then case when strpos(value::text, '.') > 0 then 'float' else 'int' end
    when 'string' then 'str'
    when 'boolean' then 'bool'
    else jsonb_typeof(value)
end;

-- The name of the type that a schema asks for, in messages.
create function hotpath.schema_word(schema jsonb, defs jsonb) returns text
language plpgsql immutable parallel safe as $$
begin
    if schema ? '$ref' then
        return hotpath.schema_word(defs -> substr(schema ->> '$ref', 9), defs);
    elsif schema ? 'anyOf' then
        return (select string_agg(hotpath.schema_word(m, defs), ' | ' order by i) from jsonb_array_elements(schema -> 'anyOf') with ordinality a (m, i));
    elsif schema ? 'enum' or schema ? 'const' then
        return coalesce(hotpath.type_word(coalesce(schema -> 'const', schema -> 'enum' -> 0)), 'any');
    elsif schema ->> 'contentEncoding' = 'base64' then
        return 'bytes';
    elsif schema ? 'format' and schema ->> 'format' <> 'path' then
        return replace(schema ->> 'format', 'date-time', 'datetime');
    end if;
    return case schema ->> 'type' when 'integer' then 'int' when 'number' then 'float' when 'string' then 'str'
        when 'boolean' then 'bool' else coalesce(schema ->> 'type', 'any') end;
end $$;

-- What is wrong with a text of a certain format; null when nothing is.
create function hotpath.check_format(schema jsonb, given text) returns text
language plpgsql immutable parallel safe as $$
declare
    format constant text := schema ->> 'format';
    days integer;
begin
    if schema ->> 'contentEncoding' = 'base64' then
        return case when given ~ '^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$' then null else 'invalid base64 encoded string' end;
    elsif format = 'uuid' then
        return case when given ~* '^([0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$' then null else 'invalid UUID' end;
    end if;
    if format in ('date', 'date-time') then
        if given !~ '^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])' or given like '0000%' then
            return case format when 'date' then 'invalid RFC3339 encoded date' else 'invalid RFC3339 encoded datetime' end;
        end if;
        days := extract(day from (make_date(left(given, 4)::integer, substr(given, 6, 2)::integer, 1) + interval '1 month' - interval '1 day'));
        if substr(given, 9, 2)::integer > days then
            return case format when 'date' then 'invalid RFC3339 encoded date' else 'invalid RFC3339 encoded datetime' end;
        end if;
    end if;
    if format = 'date' and length(given) <> 10 then
        return 'invalid RFC3339 encoded date';
    elsif format = 'date-time' and substr(given, 11) !~* '^[T ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d([.]\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?$' then
        return 'invalid RFC3339 encoded datetime';
    elsif format = 'time' and given !~* '^([01]\d|2[0-3]):[0-5]\d:[0-5]\d([.]\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?$' then
        return 'invalid RFC3339 encoded time';
    elsif schema ? 'x-tz' and (schema -> 'x-tz')::boolean <> (given ~* '(Z|[+-]\d\d:\d\d)$') then
        return case when (schema -> 'x-tz')::boolean then 'expected a time with a timezone' else 'expected a time without a timezone' end;
    end if;
    return null;
end $$;

-- What is wrong with one value, as a line that begins with its path; null when nothing is.
create function hotpath.check_value(schema jsonb, value jsonb, path text, defs jsonb) returns text
language plpgsql immutable parallel safe as $$
declare
    kind constant text := jsonb_typeof(value);
    given constant text := case when kind in ('string', 'number') then value #>> '{}' end;
    where_is constant text := case when path = '' then 'args' else 'field `' || path || '`' end;
    wanted text;
    member jsonb;
    item jsonb;
    problem text;
    answer text;
    name text;
    n integer;
begin
    while schema ? '$ref' loop
        if schema ? 'required' and kind = 'object' then  -- a member of a union, which must carry its tag
            for i in 0 .. jsonb_array_length(schema -> 'required') - 1 loop
                if not value ? (schema -> 'required' ->> i) then
                    return 'field `' || path || '.' || (schema -> 'required' ->> i) || '` is missing';
                end if;
            end loop;
        end if;
        schema := defs -> substr(schema ->> '$ref', 9);
    end loop;

    if schema ? 'anyOf' then
        for member in select m from jsonb_array_elements(schema -> 'anyOf') a (m) loop
            problem := hotpath.check_value(member, value, path, defs);
            if problem is null then
                return null;
            end if;
            -- The member of the value's own type, and with its tag, says best what is wrong with it.
            if problem not like where_is || ': expected %' and (answer is null or answer like '%: invalid enum value %') then
                answer := problem;
            end if;
        end loop;
        return coalesce(answer, where_is || ': expected ' || hotpath.schema_word(schema, defs) || ', got ' || hotpath.type_word(value));
    elsif schema ? 'enum' or schema ? 'const' then
        item := coalesce(schema -> 'enum', jsonb_build_array(schema -> 'const'));
        if kind not in ('object', 'array') and item @> jsonb_build_array(value) and (kind <> 'number' or strpos(given, '.') = 0) then
            return null;
        elsif exists (select from jsonb_array_elements(item) a (m) where jsonb_typeof(m) = kind) then
            return where_is || ': invalid enum value ' || case kind when 'string' then quote_literal(given) else value::text end;
        end if;
        return where_is || ': expected ' || hotpath.schema_word(schema, defs) || ', got ' || hotpath.type_word(value);
    elsif not schema ? 'type' then
        return null;
    end if;

    wanted := schema ->> 'type';
    if not (wanted = kind or (wanted = 'integer' and kind = 'number' and strpos(given, '.') = 0)
            or (jsonb_typeof(schema -> 'type') = 'array' and (schema -> 'type') ? kind)) then
        return where_is || ': expected ' || hotpath.schema_word(schema, defs) || ', got ' || hotpath.type_word(value);
    end if;

    if kind = 'number' then
        if value::numeric < (schema -> 'minimum')::numeric then
            return where_is || ': expected ' || hotpath.schema_word(schema, defs) || ' >= ' || (schema ->> 'minimum');
        elsif value::numeric <= (schema -> 'exclusiveMinimum')::numeric then
            return where_is || ': expected ' || hotpath.schema_word(schema, defs) || ' > ' || (schema ->> 'exclusiveMinimum');
        elsif value::numeric > (schema -> 'maximum')::numeric then
            return where_is || ': expected ' || hotpath.schema_word(schema, defs) || ' <= ' || (schema ->> 'maximum');
        elsif value::numeric >= (schema -> 'exclusiveMaximum')::numeric then
            return where_is || ': expected ' || hotpath.schema_word(schema, defs) || ' < ' || (schema ->> 'exclusiveMaximum');
        elsif mod(value::numeric, (schema -> 'multipleOf')::numeric) <> 0 then
            return where_is || ': expected ' || hotpath.schema_word(schema, defs) || ' that''s a multiple of ' || (schema ->> 'multipleOf');
        elsif wanted = 'number' and abs(value::numeric) > 1.7976931348623158e308 then
            return where_is || ': number out of range';
        end if;
    elsif kind = 'string' then
        if length(given) < (schema -> 'minLength')::integer then
            return where_is || ': expected str of length >= ' || (schema ->> 'minLength');
        elsif length(given) > (schema -> 'maxLength')::integer then
            return where_is || ': expected str of length <= ' || (schema ->> 'maxLength');
        elsif schema ? 'pattern' and (schema ->> 'pattern') !~ '\(\?|\\[^dwsDWS.^$*+?()|{}/\[\]\\-]' and given !~ (schema ->> 'pattern') then
            return where_is || ': expected str matching regex ' || quote_literal(schema ->> 'pattern');
        elsif schema ?| '{format,contentEncoding}' then
            return where_is || ': ' || hotpath.check_format(schema, given);
        end if;
    elsif kind = 'array' then
        n := jsonb_array_length(value);
        if n < (schema -> 'minItems')::integer or n > (schema -> 'maxItems')::integer then
            return where_is || ': expected array of length ' || concat_ws(' to ', schema ->> 'minItems', schema ->> 'maxItems');
        end if;
        for i in 0 .. least(n, jsonb_array_length(schema -> 'prefixItems')) - 1 loop
            problem := hotpath.check_value(schema -> 'prefixItems' -> i, value -> i, path || '[' || i || ']', defs);
            if problem is not null then
                return problem;
            end if;
        end loop;
        if jsonb_typeof(schema -> 'items') = 'object' then
            member := schema -> 'items';
            for n, item in
                select i - 1, m from jsonb_array_elements(value) with ordinality a (m, i)
                where case jsonb_typeof(m)
                    when member ->> 'type' then
                        member ?| '{format,pattern,contentEncoding,minLength,maxLength,minimum,maximum,exclusiveMinimum,exclusiveMaximum,multipleOf,properties,additionalProperties,propertyNames,items,prefixItems,minItems,maxItems,minProperties,maxProperties}'
                    when 'number' then
                        member ->> 'type' is distinct from 'integer' or strpos(m::text, '.') > 0
                        or member ?| '{minimum,maximum,exclusiveMinimum,exclusiveMaximum,multipleOf}'
                    else true end
            loop
                problem := hotpath.check_value(member, item, path || '[' || n || ']', defs);
                if problem is not null then
                    return problem;
                end if;
            end loop;
        end if;
    elsif kind = 'object' then
        if schema ? 'properties' then
            return hotpath.check_object(schema, value, path, defs);
        end if;
        if schema ?| '{minProperties,maxProperties}' then
            n := (select count(*) from jsonb_object_keys(value));
            if n < (schema -> 'minProperties')::integer or n > (schema -> 'maxProperties')::integer then
                return where_is || ': expected object of length ' || concat_ws(' to ', schema ->> 'minProperties', schema ->> 'maxProperties');
            end if;
        end if;
        if schema ?| '{propertyNames,additionalProperties}' then
            for name, item in select e.key, e.value from jsonb_each(value) e loop
                member := schema -> 'propertyNames';
                if member ->> 'format' = 'integer' then
                    problem := case when name ~ '^(0|-?[1-9][0-9]*)$' then null else where_is || ': expected int, got str as a key' end;
                elsif member is not null then
                    problem := hotpath.check_value(member || '{"type": "string"}', to_jsonb(name), path || '[...]', defs);
                end if;
                if problem is null and jsonb_typeof(schema -> 'additionalProperties') = 'object' then
                    problem := hotpath.check_value(schema -> 'additionalProperties', item, path || '[...]', defs);
                end if;
                if problem is not null then
                    return problem;
                end if;
            end loop;
        end if;
    end if;
    return null;
end $$;

-- The same for an object with known fields.
create function hotpath.check_object(schema jsonb, value jsonb, path text, defs jsonb) returns text
language plpgsql immutable parallel safe as $$
declare
    properties constant jsonb := schema -> 'properties';
    required constant jsonb := schema -> 'required';
    extra constant jsonb := schema -> 'additionalProperties';
    prefix constant text := case when path = '' then '' else path || '.' end;
    name text;
    item jsonb;
    member jsonb;
    problem text;
begin
    for name, item, member in
        select e.key, e.value, properties -> e.key from jsonb_each(value) e
        where case jsonb_typeof(e.value)
            when properties -> e.key ->> 'type' then
                (properties -> e.key) ?| '{format,pattern,contentEncoding,minLength,maxLength,minimum,maximum,exclusiveMinimum,exclusiveMaximum,multipleOf,properties,additionalProperties,propertyNames,items,prefixItems,minItems,maxItems,minProperties,maxProperties}'
            when 'number' then
                properties -> e.key ->> 'type' is distinct from 'integer' or strpos(e.value::text, '.') > 0
                or (properties -> e.key) ?| '{minimum,maximum,exclusiveMinimum,exclusiveMaximum,multipleOf}'
            else true end
    loop
        if member is not null then
            problem := hotpath.check_value(member, item, prefix || name, defs);
        elsif extra = 'false' then
            problem := 'field `' || prefix || name || '` is unknown';
        elsif jsonb_typeof(extra) = 'object' then
            problem := hotpath.check_value(extra, item, prefix || name, defs);
        end if;
        if problem is not null then
            return problem;
        end if;
    end loop;
    for i in 0 .. coalesce(jsonb_array_length(required), 0) - 1 loop
        if not value ? (required ->> i) then
            return 'field `' || prefix || (required ->> i) || '` is missing';
        end if;
    end loop;
    return null;
end $$;

-- What is wrong with a job's args, as one line that names the field; null when nothing is.
create function hotpath.check_args(schema jsonb, args jsonb) returns text
language plpgsql immutable parallel safe as $$
declare
    properties constant jsonb := schema -> 'properties';
    names_in_order constant jsonb := schema -> 'order';
    closed constant boolean := schema -> 'additionalProperties' = 'false';
    name text;
    known text[];
    problem text;
begin
    if jsonb_typeof(args) is distinct from 'object' then
        return 'args must be one JSON object, got ' || coalesce(hotpath.type_word(args), 'null');
    elsif properties is null or not (closed or names_in_order is null or jsonb_array_length(names_in_order) > 0
                                     or jsonb_typeof(schema -> 'additionalProperties') = 'object') then
        return null;
    elsif names_in_order is null or not closed then
        return hotpath.check_object(schema, args, '', schema -> '$defs');
    end if;
    -- Nothing but simple expressions, which cost a tenth of a query.
    for i in 0 .. jsonb_array_length(names_in_order) - 1 loop
        name := names_in_order ->> i;
        if args ? name then
            known := known || name;
            if (case jsonb_typeof(args -> name)
                when properties -> name ->> 'type' then
                    (properties -> name) ?| '{format,pattern,contentEncoding,minLength,maxLength,minimum,maximum,exclusiveMinimum,exclusiveMaximum,multipleOf,properties,additionalProperties,propertyNames,items,prefixItems,minItems,maxItems,minProperties,maxProperties}'
                when 'number' then
                    properties -> name ->> 'type' is distinct from 'integer' or strpos(args ->> name, '.') > 0
                    or (properties -> name) ?| '{minimum,maximum,exclusiveMinimum,exclusiveMaximum,multipleOf}'
                else true end)
            then
                problem := hotpath.check_value(properties -> name, args -> name, name, schema -> '$defs');
                if problem is not null then
                    return problem;
                end if;
            end if;
        elsif schema -> 'required' ? name then
            return 'field `' || name || '` is missing';
        end if;
    end loop;
    if args - coalesce(known, '{}') <> '{}' then
        return 'field `' || (select k from jsonb_object_keys(args - coalesce(known, '{}')) k limit 1) || '` is unknown';
    end if;
    return null;
end $$;
