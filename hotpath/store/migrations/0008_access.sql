-- Access to `hotpath serve`: API tokens. What a token opens is checked by the server, not here; a token's secret is nowhere, only its hash.

create table hotpath.api_token (
    id text not null primary key check (id ~ '^[a-z2-7]{12}$'),
    name text not null check (name <> '' and char_length(name) <= 100),
    hash bytea not null check (octet_length(hash) = 32),  -- SHA-256 of 256 random bits: nothing that could be guessed, so no slow hash
    scopes text[] not null check (cardinality(scopes) > 0 and scopes <@ array['read', 'run', 'admin']),
    created_at timestamptz not null default now(),
    expires_at timestamptz,  -- null: never
    last_used_at timestamptz,  -- to the minute
    revoked_at timestamptz
);
-- A name means one token: the one that is not revoked.
create unique index api_token_name on hotpath.api_token (name) where revoked_at is null;

-- Readers may not read hashes.
revoke all on hotpath.api_token from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.api_token to hotpath_worker;
    end if;
end $$;
