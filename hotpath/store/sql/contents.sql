-- Contents of files. $1 hashes.
select c.hash, c.body from unnest($1::text[]) as h (hash) join hotpath.content c on c.hash = h.hash
