-- What people are told of, until it is delivered and for a while after. The order of ids need not be
-- that of commits: whoever reads pages backwards misses none.
create table alerts (
    id           bigint      generated always as identity,
    identity     text        not null, -- makes alerts that are raised twice one
    lasting      boolean     not null, -- is never forgotten
    kind         text        not null,
    severity     text        not null,
    subject      text        not null,
    project      text        not null,
    message      text        not null,
    at           timestamptz not null,
    due_at       timestamptz not null, -- when delivery is tried next
    delivered_at timestamptz,
    tries        int         not null default 0,
    error        text        not null default '',
    constraint alerts_pkey primary key (id),
    constraint alerts_identity unique (identity)
);
-- ClaimAlerts: what is not delivered. What nobody delivers, because there is no webhook, is in it too.
create index alerts_by_due on alerts (id) where delivered_at is null;
create index alerts_by_time on alerts (at);
