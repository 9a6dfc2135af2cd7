-- Whether any API token is good now.
select exists (select from hotpath.api_token where revoked_at is null and (expires_at is null or expires_at > now()))
