-- +goose Up

-- Access logs. Times are microseconds since 1970, in UTC.
create table access_logs (
    ts                 integer not null,
    id                 blob    not null,
    key_id             integer not null,
    provider_id        integer not null,
    latency_ms         integer not null,
    ttft_ms            integer not null,
    input_tokens       integer not null,
    cache_read_tokens  integer not null,
    cache_write_tokens integer not null,
    output_tokens      integer not null,
    cost_nano_usd      integer, -- null: not known
    priced_revision    integer not null,
    status             integer not null,
    attempts           integer not null,
    stream             integer not null,
    request_id         text    not null,
    balancer           text    not null,
    namespace          text    not null,
    model              text    not null,
    upstream_model     text    not null,
    route_group        text    not null,
    endpoint           text    not null,
    error              text    not null,
    client_ip          text    not null,
    user_agent         text    not null,
    revision           text    not null,
    project            text    not null,
    end_user           text    not null,
    tags               text    not null, -- JSON, or empty
    failures           text    not null, -- JSON, or empty
    -- The identity of an entry, by which one that comes again is recognised; and
    -- the order of time: pages, newest first, whatever they filter by.
    primary key (ts, id)
) strict, without rowid;

-- Pages of one key, which may be a small part of all.
create index access_logs_key on access_logs (key_id, ts, id);

-- One request, wherever it is.
create index access_logs_request on access_logs (request_id) where request_id <> '';

-- How far each segment of a spool is stored.
create table log_checkpoints (
    segment    blob    primary key,
    position   integer not null,
    updated_at integer not null
) strict, without rowid;

-- Entries that the tables refused, each with the reason.
create table log_dead_letter (
    id      blob    not null,
    micros  integer not null, -- the entry's time
    at      integer not null,
    segment blob,             -- of the spool; null: from memory
    code    integer not null, -- SQLite's extended result code
    reason  text    not null,
    entry   text    not null, -- JSON
    primary key (id, micros)
) strict, without rowid;

-- Usage by the quarter of an hour and every dimension. There is one writer at a time, so it
-- is added up as it is written.
create table usage_quarters (
    starts                  integer not null,
    key_id                  integer not null,
    project                 text    not null,
    provider_id             integer not null,
    namespace               text    not null,
    model                   text    not null,
    route_group             text    not null,
    requests                integer not null,
    errors                  integer not null,
    unpriced                integer not null, -- requests
    input_tokens_high       integer not null, -- a sum is high × 2³² + low: no number of integers makes it overflow
    input_tokens_low        integer not null,
    cache_read_tokens_high  integer not null,
    cache_read_tokens_low   integer not null,
    cache_write_tokens_high integer not null,
    cache_write_tokens_low  integer not null,
    output_tokens_high      integer not null,
    output_tokens_low       integer not null,
    cost_nano_usd_high      integer not null, -- of the priced requests
    cost_nano_usd_low       integer not null,
    last_at                 integer not null, -- of the latest request
    primary key (starts, key_id, project, provider_id, namespace, model, route_group)
) strict, without rowid;

-- What one key, and what one project has used.
create index usage_quarters_by_key on usage_quarters (key_id, starts);
create index usage_quarters_by_project on usage_quarters (project, starts);

-- The same by the day, of the days that are closed.
create table usage_days (
    starts                  integer not null,
    key_id                  integer not null,
    project                 text    not null,
    provider_id             integer not null,
    namespace               text    not null,
    model                   text    not null,
    route_group             text    not null,
    requests                integer not null,
    errors                  integer not null,
    unpriced                integer not null, -- requests
    input_tokens_high       integer not null, -- a sum is high × 2³² + low: no number of integers makes it overflow
    input_tokens_low        integer not null,
    cache_read_tokens_high  integer not null,
    cache_read_tokens_low   integer not null,
    cache_write_tokens_high integer not null,
    cache_write_tokens_low  integer not null,
    output_tokens_high      integer not null,
    output_tokens_low       integer not null,
    cost_nano_usd_high      integer not null, -- of the priced requests
    cost_nano_usd_low       integer not null,
    last_at                 integer not null, -- of the latest request
    primary key (starts, key_id, project, provider_id, namespace, model, route_group)
) strict, without rowid;

-- What one key, and what one project has used.
create index usage_days_by_key on usage_days (key_id, starts);
create index usage_days_by_project on usage_days (project, starts);

-- What usage_quarters and usage_days hold.
create table usage_state (
    singleton     integer primary key check (singleton = 1),
    zone          text    not null, -- whose days usage_days has; empty: not chosen yet
    closed_until  integer not null, -- all before is in usage_days
    quarters_from integer not null  -- what is before is in usage_days only
) strict;
insert into usage_state values (1, '', 0, 0);

-- The run that prices stored entries anew, while it lasts.
create table log_reprice (
    singleton integer primary key check (singleton = 1),
    run       blob    not null,
    until     integer not null
) strict;

-- What each process has seen of providers within the last minutes, by slots of time.
create table log_health (
    slot   integer not null,
    writer blob    not null,
    body   blob    not null,
    primary key (slot, writer)
) strict, without rowid;

-- +goose Down
drop table log_health;
drop table log_reprice;
drop table usage_state;
drop table usage_days;
drop table usage_quarters;
drop table log_dead_letter;
drop table log_checkpoints;
drop table access_logs;
