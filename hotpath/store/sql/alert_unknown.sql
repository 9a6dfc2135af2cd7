-- What a rule names and nobody has heard of yet: whether patterns $1 match no tag (null: not asked), and whether group $2 had no worker (null likewise).
select $1::text[] is not null and not exists (select from hotpath.tag where hotpath.tag_listened(name, $1)) as tags,
    $2::text is not null and not exists (select from hotpath.worker where worker_group = $2) as worker_group
