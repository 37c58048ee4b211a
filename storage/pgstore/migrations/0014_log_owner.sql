-- Whose logs these are: the store of the catalog, as catalog_head has it. Servers of another one keep away. To hand the
-- logs over, stop the servers of this one, and delete the row.
create table log_owner (
    single  boolean     primary key default true check (single), -- one row
    catalog text        not null,
    since   timestamptz not null default now()
);

-- Where a catalog is at work here, its logs are its own.
insert into log_owner (catalog) select store::text from catalog_head where revision > 0;
