-- +goose Up

-- Times are microseconds since 1970, in UTC. Lists, labels and specs are JSON.

-- The one row that every commit bumps.
create table catalog_head (
    singleton integer primary key check (singleton = 1),
    store     text    not null, -- UUID
    epoch     integer not null default 0,
    revision  integer not null default 0,
    mark      text    not null default '', -- of the commit that made the revision
    next_id   integer not null default 1   -- of all nouns
) strict;

-- Version 4, variant 1.
insert into catalog_head (singleton, store)
select 1, lower(substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-4' || substr(h, 14, 3) || '-a' || substr(h, 18, 3)
    || '-' || substr(h, 21, 12))
from (select hex(randomblob(16)) as h);

-- One table per noun, all of one shape. The unique columns serve Find.
create table models (
    id          integer primary key,
    revision    integer not null,
    created_at  integer not null,
    updated_at  integer not null,
    natural_key text    unique,
    external_id text    unique,
    hashes      text    not null,
    ref         text,
    name        text    not null,
    search      text    not null, -- the name and the external id, folded; what a search looks in
    status      text    not null,
    namespaces  text    not null,
    groups      text    not null,
    labels      text    not null,
    due_at      integer,
    spec        text,
    mentions    text    not null
) strict;
create table providers (
    id          integer primary key,
    revision    integer not null,
    created_at  integer not null,
    updated_at  integer not null,
    natural_key text    unique,
    external_id text    unique,
    hashes      text    not null,
    ref         text,
    name        text    not null,
    search      text    not null, -- the name and the external id, folded; what a search looks in
    status      text    not null,
    namespaces  text    not null,
    groups      text    not null,
    labels      text    not null,
    due_at      integer,
    spec        text,
    mentions    text    not null
) strict;
-- Deferred, so that the order of writes within a commit is free: what counts
-- is what the last one leaves.
create table bindings (
    id          integer primary key,
    revision    integer not null,
    created_at  integer not null,
    updated_at  integer not null,
    natural_key text    unique,
    external_id text    unique,
    hashes      text    not null,
    ref         text    references models (natural_key) deferrable initially deferred,
    name        text    not null,
    search      text    not null, -- the name and the external id, folded; what a search looks in
    status      text    not null,
    namespaces  text    not null,
    groups      text    not null,
    labels      text    not null,
    due_at      integer,
    spec        text,
    mentions    text    not null
) strict;
create table keys (
    id          integer primary key,
    revision    integer not null,
    created_at  integer not null,
    updated_at  integer not null,
    natural_key text    unique,
    external_id text    unique,
    hashes      text    not null,
    ref         text,
    name        text    not null,
    search      text    not null, -- the name and the external id, folded; what a search looks in
    status      text    not null,
    namespaces  text    not null,
    groups      text    not null,
    labels      text    not null,
    due_at      integer,
    spec        text,
    mentions    text    not null
) strict;

-- Refs, and the check of the foreign key when a model goes.
create index bindings_by_ref on bindings (ref);
-- Names: models by the public name that implied bindings go by, keys by the
-- name people search for.
create index models_by_name on models (name);
create index keys_by_name on keys (name);
-- Mentions: the keys whose allow-list names a model that is renamed or deleted. Most
-- keys have no list, and are not looked at.
create index keys_by_mention on keys (id) where mentions <> '[]';
-- DueBefore: hashes of rotated keys whose grace has ended.
create index keys_by_due on keys (due_at) where due_at is not null;

-- Find by token hash, and the uniqueness of hashes across keys. keys.hashes
-- is the truth, in order.
create table key_hashes (
    hash   text    primary key,
    key_id integer not null references keys (id) deferrable initially deferred
) strict, without rowid;
-- The hashes of a key that is written or deleted.
create index key_hashes_by_key on key_hashes (key_id);

-- The change feed: outbox, audit trail and history. A revision is at least one row.
create table changes (
    revision integer not null,
    seq      integer not null,
    mark     text    not null, -- of the revision
    time     integer not null,
    actor    text    not null,
    reason   text    not null,
    action   text    not null,
    kind     text    not null,
    id       integer not null,
    before   text,
    after    text,
    touches  text    not null,
    primary key (revision, seq)
) strict, without rowid;

-- +goose Down
drop table changes;
drop table key_hashes;
drop table keys;
drop table bindings;
drop table providers;
drop table models;
drop table catalog_head;
