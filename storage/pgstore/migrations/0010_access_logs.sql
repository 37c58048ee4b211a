-- Access logs, a partition a day (UTC), named access_logs_YYYYMMDD and made by
-- the code: a little ahead, or when the first entry of a day arrives. Columns of
-- fixed size come first, so that none is padded.
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

-- Usage by the quarter of an hour and every dimension. Texts compare by their bytes, so that
-- their order is the same everywhere.
create table usage_hourly (
    hour               timestamptz not null,
    key_id             bigint      not null,
    provider_id        bigint      not null,
    requests           bigint      not null,
    errors             bigint      not null,
    input_tokens       bigint      not null,
    cache_read_tokens  bigint      not null,
    cache_write_tokens bigint      not null,
    output_tokens      bigint      not null,
    cost_nano_usd      bigint      not null, -- of the priced requests
    unpriced           bigint      not null, -- requests
    namespace          text        collate "C" not null,
    model              text        collate "C" not null,
    route_group        text        collate "C" not null,
    project            text        collate "C" not null,
    -- One row a group, and the usage of a key over a long time: its budget.
    constraint usage_hourly_pkey primary key (key_id, hour, provider_id, namespace, model, route_group, project)
) with (fillfactor = 80); -- rows of the current hour are updated in place

-- The usage of all keys over a short time. Rows come in the order of time.
create index usage_hourly_by_hour on usage_hourly using brin (hour) with (pages_per_range = 16, autosummarize = on);

-- Usage as batches bring it, until maintenance adds it to usage_hourly: an
-- append costs half of an upsert. It has no index, because it stays short: vacuum
-- would stop writes to shrink its file, and maintenance, which does it, takes the right moment.
create table usage_pending (like usage_hourly) with (vacuum_truncate = off);

