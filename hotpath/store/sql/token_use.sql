-- The API token with this id, if it is good now, with the hash of its secret; that it was used is noted, at most once a minute. $1 id.
with used as (
    update hotpath.api_token set last_used_at = now()
    where id = $1 and revoked_at is null and (expires_at is null or expires_at > now())
        and (last_used_at is null or last_used_at < now() - interval '1 minute')
)
select id, name, scopes, created_at, expires_at, last_used_at, revoked_at, hash
from hotpath.api_token where id = $1 and revoked_at is null and (expires_at is null or expires_at > now())
