-- Access logs, a partition a day (UTC), called access_logs_YYYYMMDD and made by
-- the code: a little ahead, or when the first entry of a day arrives. What counts
-- is the bounds of a partition, not its name. Columns of fixed size come first, so
-- that none is padded.
create table access_logs (
    ts                 timestamptz not null,
    id                 uuid        not null,
    key_id             bigint      not null,
    provider_id        bigint      not null,
    latency_ms         bigint      not null,
    ttft_ms            bigint      not null,
    input_tokens       bigint      not null,
    cache_read_tokens  bigint      not null,
    cache_write_tokens bigint      not null,
    output_tokens      bigint      not null,
    cost_nano_usd      bigint,              -- null: not known
    priced_revision    bigint      not null,
    status             integer     not null,
    attempts           integer     not null,
    stream             boolean     not null,
    request_id         text        not null,
    balancer           text        not null,
    namespace          text        not null,
    model              text        not null,
    upstream_model     text        not null,
    route_group        text        not null,
    endpoint           text        not null,
    error              text        not null,
    client_ip          text        not null,
    user_agent         text        not null,
    revision           text        not null,
    project            text        not null,
    end_user           text        not null,
    tags               jsonb,               -- null: none
    failures           jsonb,               -- null: none
    -- The identity of an entry, by which one that comes again is recognised; and
    -- the order of time: pages, newest first, whatever they filter by.
    constraint access_logs_pkey primary key (ts, id)
) partition by range (ts);

-- When the entries of a key or a request are: for some entries of one quarter of an
-- hour, the time of each and hashes of its key and its request, and a Bloom filter of those
-- by which to pass over the rest. Unlike an index, which would take 40 % of the rate of writes
-- and more, it costs a row for each 1,000.
create table log_blocks (
    since   timestamptz not null, -- of the earliest entry
    until   timestamptz not null, -- of the latest
    filter  bytea       not null,
    entries bytea       not null
);
alter table log_blocks alter column filter set storage plain;     -- beside the rest of the row, to be looked into at once
alter table log_blocks alter column entries set storage external; -- apart, out of the way of who looks into filters; hashes cannot be compressed

-- It has no key. Where a publication for logical replication has such a table, its rows can be deleted only if
-- it says so; elsewhere that costs nothing.
alter table log_blocks replica identity full;

-- Those of the time that is asked for.
create index log_blocks_by_time on log_blocks (until);

-- How far each segment of a spool is stored.
create table log_checkpoints (
    segment    uuid        primary key,
    position   bigint      not null,
    updated_at timestamptz not null default now()
);

-- Entries that the database refused, each with the reason.
create table log_dead_letter (
    id       uuid        not null,
    micros   bigint      not null, -- the entry's time since 1970; timestamptz might not hold it
    at       timestamptz not null default now(),
    segment  uuid,                 -- of the spool; null: from memory
    sqlstate text        not null,
    reason   text        not null,
    entry    json        not null, -- json, not jsonb, which cannot hold NUL
    constraint log_dead_letter_pkey primary key (id, micros)
);

-- Usage by the quarter of an hour and every dimension. Sums are wider than what is added to them, so
-- that nothing is ever cut off which could not be taken back. Texts compare by their bytes, so that
-- their order is the same everywhere.
create table usage_quarters (
    starts             timestamptz not null,
    last_at            timestamptz not null, -- of the latest request
    key_id             bigint      not null,
    provider_id        bigint      not null,
    requests           bigint      not null,
    errors             bigint      not null,
    unpriced           bigint      not null, -- requests
    input_tokens       numeric     not null,
    cache_read_tokens  numeric     not null,
    cache_write_tokens numeric     not null,
    output_tokens      numeric     not null,
    cost_nano_usd      numeric     not null, -- of the priced requests
    project            text        collate "C" not null,
    namespace          text        collate "C" not null,
    model              text        collate "C" not null,
    route_group        text        collate "C" not null,
    -- One row a group, and the usage of a key.
    constraint usage_quarters_pkey primary key (key_id, starts, project, provider_id, namespace, model, route_group)
) with (fillfactor = 50); -- a fold may add to all rows of a page, and does not touch indexes while the page has room

-- The usage of a project.
create index usage_quarters_by_project on usage_quarters (project, starts);

-- The usage of all over a short time. Rows come in the order of time.
create index usage_quarters_by_time on usage_quarters using brin (starts)
    with (pages_per_range = 16, autosummarize = on);

-- The same by the day, of the days that are closed.
create table usage_days (like usage_quarters,
    constraint usage_days_pkey primary key (key_id, starts, project, provider_id, namespace, model, route_group)
) with (fillfactor = 50);
create index usage_days_by_project on usage_days (project, starts);
create index usage_days_by_time on usage_days using brin (starts) with (pages_per_range = 16, autosummarize = on);

-- What usage_quarters and usage_days hold.
create table usage_state (
    singleton     boolean     primary key default true check (singleton),
    zone          text,                            -- whose days usage_days has; null: not chosen yet
    closed_until  timestamptz,                     -- all before is in usage_days; null: nothing is
    quarters_from timestamptz not null default '-infinity', -- what is before is in usage_days only
    folded_at     timestamptz                      -- when nothing was pending
);
insert into usage_state default values;

-- Usage as batches bring it, until maintenance adds it to usage_quarters: an append costs half of an
-- upsert. It has no index, because it stays short: vacuum would stop writes to shrink its file, and
-- maintenance, which does it, takes the right moment.
create table usage_pending (
    starts             timestamptz not null,
    last_at            timestamptz not null,
    key_id             bigint      not null,
    provider_id        bigint      not null,
    requests           bigint      not null,
    errors             bigint      not null,
    unpriced           bigint      not null,
    input_tokens       bigint      not null,
    cache_read_tokens  bigint      not null,
    cache_write_tokens bigint      not null,
    output_tokens      bigint      not null,
    cost_nano_usd      bigint      not null,
    project            text        collate "C" not null,
    namespace          text        collate "C" not null,
    model              text        collate "C" not null,
    route_group        text        collate "C" not null
) with (vacuum_truncate = off);
alter table usage_pending replica identity full; -- as log_blocks

-- Rows of usage_pending that usage_quarters refuses, each with the reason. They count as what is pending does.
create table usage_aside (like usage_pending,
    at       timestamptz not null default now(),
    sqlstate text        not null,
    reason   text        not null
);
alter table usage_aside replica identity full; -- as log_blocks

-- The run that prices stored entries anew, while it lasts.
create table log_reprice (
    singleton boolean     primary key default true check (singleton),
    run       uuid        not null,
    until     timestamptz not null
);

-- What each process has seen of providers within the last minutes, by slots of time. It is written
-- every few seconds and is of no use after a crash, so it need not be in the write-ahead log.
create unlogged table log_health (
    slot   timestamptz not null,
    writer uuid        not null,
    body   bytea       not null,
    constraint log_health_pkey primary key (slot, writer)
);
