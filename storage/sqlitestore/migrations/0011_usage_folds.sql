-- +goose Up

-- What batches have added to usage, in order. A backup that is played back gives a number again,
-- but never its mark.
create table usage_folds (
    number integer primary key,
    mark   blob    not null,
    at     integer not null, -- microseconds since 1970
    rows   integer not null  -- of usage_spent
) strict;
insert into usage_folds values (0, randomblob(16), 0, 0); -- before the first

-- What each of them has added to what keys spend for projects, for an hour.
create table usage_spent (
    number        integer not null, -- of the fold
    starts        integer not null, -- of the quarter of an hour
    key_id        integer not null,
    project       text    not null,
    cost_nano_usd text    not null, -- a decimal: no integer might hold it
    unpriced      integer not null  -- requests
) strict;
create index usage_spent_by_fold on usage_spent (number);

-- +goose Down
drop table usage_spent;
drop table usage_folds;
