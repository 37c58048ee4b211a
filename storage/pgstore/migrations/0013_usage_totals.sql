-- Usage without its keys, beside usage_quarters and usage_days: with 100,000 keys those have a hundred times
-- the rows, and most questions name no key. The fold adds to both in one statement.
create table usage_quarter_totals (
    starts             timestamptz not null,
    last_at            timestamptz not null, -- of the latest request
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
    constraint usage_quarter_totals_pkey primary key (starts, project, provider_id, namespace, model, route_group)
) with (fillfactor = 50); -- as usage_quarters
create index usage_quarter_totals_by_project on usage_quarter_totals (project, starts);

create table usage_day_totals (like usage_quarter_totals,
    constraint usage_day_totals_pkey primary key (starts, project, provider_id, namespace, model, route_group)
) with (fillfactor = 50);
create index usage_day_totals_by_project on usage_day_totals (project, starts);
