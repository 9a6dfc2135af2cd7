-- Store a new API token. $1 id; $2 name; $3 SHA-256 of its secret; $4 scopes; $5 seconds until it expires, or null for never. No row: there is one of
-- this name that is not revoked.
insert into hotpath.api_token (id, name, hash, scopes, expires_at)
values ($1, $2, $3, $4, now() + $5::float8 * interval '1 second')
on conflict (name) where revoked_at is null do nothing
returning id, name, scopes, created_at, expires_at, last_used_at, revoked_at
