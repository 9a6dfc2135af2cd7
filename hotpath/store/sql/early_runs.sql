-- Which of these runs have a result before their end. $1 runs.
select f.id as job from hotpath.flow_run f where f.id = any ($1::uuid[]) and f.early is not null
