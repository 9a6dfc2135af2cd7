-- Patterns, an exclusion without its mark, that no tag known here fits. $1 patterns.
select p.pattern from unnest($1::text[]) with ordinality as p (pattern, ord)
where not exists (select from hotpath.tag t where hotpath.tag_listened(t.name, array[ltrim(p.pattern, '!')]))
    and not exists (select from hotpath.tag_seen t where hotpath.tag_listened(t.name, array[ltrim(p.pattern, '!')]))
order by p.ord
