-- Args too large to travel with the claim. $1 jobs.
select p.id, convert_to(p.args::text, 'UTF8') as args from unnest($1::uuid[]) as u (id) join hotpath.payload p on p.id = u.id
