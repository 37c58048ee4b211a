-- +goose Up

-- What people are told of, until it is delivered and for a while after. Times are microseconds
-- since 1970, in UTC.
create table alerts (
    id           integer primary key autoincrement,
    identity     text    not null unique, -- makes alerts that are raised twice one
    lasting      integer not null, -- is never forgotten
    kind         text    not null,
    severity     text    not null,
    subject      text    not null,
    project      text    not null,
    message      text    not null,
    at           integer not null,
    due_at       integer not null, -- when delivery is tried next
    delivered_at integer,
    tries        integer not null default 0,
    error        text    not null default ''
) strict;
create index alerts_by_due on alerts (id) where delivered_at is null;
create index alerts_by_time on alerts (at);
