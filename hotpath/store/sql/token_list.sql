-- All API tokens by age, without their hashes; those that are revoked too if $1.
select id, name, scopes, created_at, expires_at, last_used_at, revoked_at, expires_at <= now() as expired
from hotpath.api_token where $1::bool or revoked_at is null order by created_at, id
