-- +goose Up

-- Times are microseconds since 1970, in UTC. Lists, labels and specs are JSON.

-- The one row that every commit bumps.
create table catalog_head (
    singleton integer primary key check (singleton = 1),
    store     text    not null, -- UUID
    epoch     integer not null default 0,
    revision  integer not null default 0,
    mark      text    not null default '', -- of the commit that made the revision
    thinned   integer not null default 0,  -- the revision up to which changes of machines may be gone
    next_id   integer not null default 1   -- of all nouns
) strict;

-- Version 4, variant 1.
insert into catalog_head (singleton, store)
select 1, lower(substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-4' || substr(h, 14, 3) || '-a' || substr(h, 18, 3)
    || '-' || substr(h, 21, 12))
from (select hex(randomblob(16)) as h);

-- One table per noun, all of one shape. The unique columns serve Find. What a ref names is
-- looked at when a commit ends, see references.go.
create table projects (
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
create table bindings (
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
create table operators (
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
create table holds (
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

-- Refs and RefUnder, and what refers to an entity that goes.
create index projects_by_ref  on projects  (ref) where ref is not null;
create index bindings_by_ref  on bindings  (ref) where ref is not null;
create index keys_by_ref      on keys      (ref) where ref is not null;
create index operators_by_ref on operators (ref) where ref is not null;
create index holds_by_ref     on holds     (ref) where ref is not null;
-- Names: models by the public name that implied bindings go by, keys by the
-- name people search for, holds by their target.
create index models_by_name on models (name);
create index keys_by_name on keys (name);
create index holds_by_name on holds (name);
-- Mentions: the keys and projects whose allow-list names a model that is renamed or deleted.
-- Most have no list, and are not looked at.
create index keys_by_mention on keys (id) where mentions <> '[]';
create index projects_by_mention on projects (id) where mentions <> '[]';
-- DueBefore: hashes of rotated tokens whose grace has ended, and holds that have ended.
create index keys_by_due      on keys      (due_at) where due_at is not null;
create index operators_by_due on operators (due_at) where due_at is not null;
create index holds_by_due     on holds     (due_at) where due_at is not null;

-- Find by token hash, and the uniqueness of hashes within a noun. The column hashes of the
-- owner is the truth, in order. The indexes are for the hashes of one that is written or deleted.
create table key_hashes (
    hash  text    primary key,
    owner integer not null references keys (id) deferrable initially deferred
) strict, without rowid;
create index key_hashes_by_owner on key_hashes (owner);
create table operator_hashes (
    hash  text    primary key,
    owner integer not null references operators (id) deferrable initially deferred
) strict, without rowid;
create index operator_hashes_by_owner on operator_hashes (owner);

-- The change feed: outbox, audit trail and history. A revision is at least one row, until it is thinned out.
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
    machine  integer not null, -- may be thinned out
    primary key (revision, seq)
) strict, without rowid;
create index changes_machine on changes (revision) where machine = 1;

-- +goose Down
drop table changes;
drop table operator_hashes;
drop table key_hashes;
drop table holds;
drop table operators;
drop table keys;
drop table bindings;
drop table models;
drop table providers;
drop table projects;
drop table catalog_head;
