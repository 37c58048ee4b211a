-- The one row that every commit bumps first. Its lock is what makes the order
-- of revisions the order of commits.
create table catalog_head (
    singleton boolean primary key default true check (singleton),
    store     uuid    not null default gen_random_uuid(),
    epoch     bigint  not null default 0,
    revision  bigint  not null default 0, -- set to null by a commit on another base: SQLSTATE 23502
    mark      uuid,                       -- of the commit that made the revision; null at 0
    thinned   bigint  not null default 0  -- the revision up to which changes of machines may be gone
);
insert into catalog_head default values;

-- Ids of all nouns.
create sequence catalog_ids as bigint;

-- One table per noun, all of one shape. Constraints and indexes are called
-- <table>_<what>: the code classifies violations by these names.
create table models (
    id          bigint      not null,
    revision    bigint      not null,
    created_at  timestamptz not null,
    updated_at  timestamptz not null,
    natural_key text,
    external_id text,
    hashes      text[],
    ref         text,
    name        text        not null,
    search      text        not null, -- the name and the external id, folded; what a search looks in
    status      text        not null,
    namespaces  text[]      not null,
    groups      text[]      not null,
    labels      jsonb       not null,
    due_at      timestamptz,
    spec        json,            -- json, not jsonb: it comes back byte for byte
    mentions    text[]      not null
);
create table projects (like models);
create table providers (like models);
create table bindings (like models);
create table keys (like models);
create table operators (like models);
create table holds (like models);

-- Get, IDs, and the order of pages. An entity that exists already violates it.
alter table projects  add constraint projects_pkey  primary key (id);
alter table providers add constraint providers_pkey primary key (id);
alter table models    add constraint models_pkey    primary key (id);
alter table bindings  add constraint bindings_pkey  primary key (id);
alter table keys      add constraint keys_pkey      primary key (id);
alter table operators add constraint operators_pkey primary key (id);
alter table holds     add constraint holds_pkey     primary key (id);

-- Find and NaturalKeys. Whole, because a foreign key may only refer to a
-- whole index; keys have no natural key, so there a partial one costs nothing.
alter table projects  add constraint projects_natural_key  unique (natural_key);
alter table providers add constraint providers_natural_key unique (natural_key);
alter table models    add constraint models_natural_key    unique (natural_key);
alter table bindings  add constraint bindings_natural_key  unique (natural_key);
alter table operators add constraint operators_natural_key unique (natural_key);
alter table holds     add constraint holds_natural_key     unique (natural_key);
create unique index keys_natural_key on keys (natural_key) where natural_key is not null;

-- Find by external id. Most entities have none.
create unique index projects_external_id  on projects  (external_id) where external_id is not null;
create unique index providers_external_id on providers (external_id) where external_id is not null;
create unique index models_external_id    on models    (external_id) where external_id is not null;
create unique index bindings_external_id  on bindings  (external_id) where external_id is not null;
create unique index keys_external_id      on keys      (external_id) where external_id is not null;
create unique index operators_external_id on operators (external_id) where external_id is not null;
create unique index holds_external_id     on holds     (external_id) where external_id is not null;

-- What is referred to exists. Deferred, so that the order of writes within a commit is free:
-- what counts is what the last one leaves. A constraint is called <table>_ref_<table that it
-- refers to>. The ref of a hold names one of three kinds, by a natural key or an id.
alter table holds
    add column ref_project text generated always as
        (case when ref like 'project/%' then substr(ref, 9) end) stored,
    add column ref_key bigint generated always as
        (case when ref like 'key/%' then substr(ref, 5)::bigint end) stored,
    add column ref_provider bigint generated always as
        (case when ref like 'provider/%' then substr(ref, 10)::bigint end) stored;
alter table projects add constraint projects_ref_projects
    foreign key (ref) references projects (natural_key) deferrable initially deferred;
alter table bindings add constraint bindings_ref_models
    foreign key (ref) references models (natural_key) deferrable initially deferred;
alter table keys add constraint keys_ref_projects
    foreign key (ref) references projects (natural_key) deferrable initially deferred;
alter table operators add constraint operators_ref_projects
    foreign key (ref) references projects (natural_key) deferrable initially deferred;
alter table holds add constraint holds_ref_projects
    foreign key (ref_project) references projects (natural_key) deferrable initially deferred;
alter table holds add constraint holds_ref_keys
    foreign key (ref_key) references keys (id) deferrable initially deferred;
alter table holds add constraint holds_ref_providers
    foreign key (ref_provider) references providers (id) deferrable initially deferred;
-- Refs and RefUnder, and the check of those constraints when an entity goes. The operator
-- class compares bytes, which a path and all below it are found by.
create index projects_by_ref   on projects  (ref text_pattern_ops) where ref is not null;
create index bindings_by_ref   on bindings  (ref);
create index keys_by_ref       on keys      (ref text_pattern_ops) where ref is not null;
create index operators_by_ref  on operators (ref text_pattern_ops) where ref is not null;
create index holds_by_ref      on holds     (ref);
create index holds_by_project  on holds (ref_project)  where ref_project is not null;
create index holds_by_key      on holds (ref_key)      where ref_key is not null;
create index holds_by_provider on holds (ref_provider) where ref_provider is not null;

-- Names: models by the public name that implied bindings go by, keys by the name people
-- search for, holds by their target. Other names are natural keys; few have the same.
create index models_by_name on models (name);
create index keys_by_name   on keys   (name);
create index holds_by_name  on holds  (name);

-- Groups: the bindings and providers whose documents a change in a group touches.
create index providers_by_group on providers using gin (groups);
create index bindings_by_group  on bindings  using gin (groups);

-- Labels: desired state is pruned by label. Entities without labels cost nothing.
create index projects_by_label  on projects  using gin (labels jsonb_path_ops) where labels <> '{}';
create index providers_by_label on providers using gin (labels jsonb_path_ops) where labels <> '{}';
create index models_by_label    on models    using gin (labels jsonb_path_ops) where labels <> '{}';
create index bindings_by_label  on bindings  using gin (labels jsonb_path_ops) where labels <> '{}';
create index keys_by_label      on keys      using gin (labels jsonb_path_ops) where labels <> '{}';

-- Groups, Namespace and Status of keys, of which there may be a million. Those
-- with the usual value cost nothing, and are found soon without an index.
create index keys_by_group     on keys using gin (groups)     where groups <> '{default}';
create index keys_by_namespace on keys using gin (namespaces) where namespaces <> '{default}';
create index keys_by_status    on keys (status, id)           where status <> 'active';

-- Mentions: the keys and projects whose allow-list names a model that is renamed or deleted.
create index keys_by_mention     on keys     using gin (mentions) where mentions <> '{}';
create index projects_by_mention on projects using gin (mentions) where mentions <> '{}';

-- DueBefore: hashes of rotated tokens whose grace has ended, and holds that have ended.
create index keys_by_due      on keys      (due_at) where due_at is not null;
create index operators_by_due on operators (due_at) where due_at is not null;
create index holds_by_due     on holds     (due_at) where due_at is not null;

-- Find by token hash, and the uniqueness of hashes within a noun. The column hashes of the
-- owner is the truth, in order; no foreign key, because it would need an index on owner.
create table key_hashes (
    hash  text   primary key,
    owner bigint not null
);
create table operator_hashes (like key_hashes);
alter table operator_hashes add constraint operator_hashes_pkey primary key (hash);

-- The change feed: outbox, audit trail and history. A revision is at least one row, until it is thinned out.
create table changes (
    revision bigint      not null,
    seq      int         not null, -- set to null by a write whose precondition fails: SQLSTATE 23502
    mark     uuid        not null, -- of the revision
    time     timestamptz not null,
    actor    text        not null,
    reason   text        not null,
    action   text        not null,
    kind     text        not null,
    id       bigint      not null,
    before   json,                 -- json, not jsonb: only ever read back whole
    after    json,
    touches  json        not null,
    machine  boolean     not null, -- may be thinned out
    constraint changes_pkey primary key (revision, seq)
);
create index changes_machine on changes (revision) where machine;

