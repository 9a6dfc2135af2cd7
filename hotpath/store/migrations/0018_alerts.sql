-- Alerts: what is watched, where words of it go, where each stands, and the words that are to be delivered. docs/alerts.md tells what they promise.

create table hotpath.alert (
    name text not null primary key check (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$'),
    rule text not null,                -- as it is written: hotpath/core/alert_rules.py reads it
    channels text[] not null check (cardinality(channels) between 1 and 20),  -- likewise: hotpath/core/alert_channels.py; no secrets are in them
    hold_seconds float8 not null check (hold_seconds >= 0),
    clear_seconds float8 not null check (clear_seconds >= 0),
    cooldown_seconds float8 not null check (cooldown_seconds > 0),
    silent_until timestamptz,
    set_at timestamptz not null default now(),
    -- Where it stands: hotpath/core/alerting.py. Written by whoever has the turn.
    phase text not null default 'fine' check (phase in ('fine', 'pending', 'firing', 'clearing')),
    since timestamptz not null default now(),
    fired_at timestamptz,
    said_at timestamptz,
    is_said boolean not null default false,
    finding text,                      -- what was found last, in words; null: nobody has looked yet
    looked_at timestamptz
);

-- Words that are to be delivered, one for each channel, put in by the transaction in which the alert moved. They stay for 14 days.
create table hotpath.alert_word (
    id int8 generated always as identity primary key,
    alert text not null,               -- its name; it may be gone
    channel text not null,             -- as it was then
    word text not null check (word in ('firing', 'still firing', 'resolved', 'test')),
    rule text not null,
    finding text not null,
    fired_at timestamptz,
    said_at timestamptz not null default now(),
    next_at timestamptz not null default now(),  -- when to try to deliver it; ahead while somebody tries
    tries integer not null default 0,
    tried_by text,
    problem text,                      -- of the last try
    ended_at timestamptz,              -- delivered, or given up
    delivered boolean not null default false
);
-- Those that are to be delivered, for each channel in order.
create index alert_word_open on hotpath.alert_word (alert, channel, id) where ended_at is null;
-- What was said of one last. Not by id: whoever orders by that may walk the key through what was said of all.
create index alert_word_said on hotpath.alert_word (alert, said_at);
create index alert_word_ended on hotpath.alert_word (ended_at) where ended_at is not null;

-- Whoever looks at the rules takes the turn here.
create table hotpath.alert_turn (only_row boolean primary key default true check (only_row), looked_at timestamptz not null default '-infinity');
insert into hotpath.alert_turn default values;

revoke all on hotpath.alert, hotpath.alert_word, hotpath.alert_turn from public;
do $$
begin
    if exists (select from pg_roles where rolname = 'hotpath_worker') then
        grant select, insert, update, delete on hotpath.alert, hotpath.alert_word, hotpath.alert_turn to hotpath_worker;
    end if;
    if exists (select from pg_roles where rolname = 'hotpath_read') then
        grant select on hotpath.alert, hotpath.alert_word, hotpath.alert_turn to hotpath_read;
    end if;
end $$;
