-- Revoke the API token with this id, or the one of this name; no row if there is none that is not revoked. $1 id or name.
update hotpath.api_token set revoked_at = now()
where revoked_at is null and id = coalesce((select t.id from hotpath.api_token t where t.id = $1 and t.revoked_at is null),
    (select t.id from hotpath.api_token t where t.name = $1 and t.revoked_at is null))
returning id, name, scopes, created_at, expires_at, last_used_at, revoked_at
