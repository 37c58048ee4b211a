-- What only the owner of access_logs may do. Servers call these functions, so they can run as a role that owns
-- nothing and may create nothing. They work for the schema in which they are made, whatever the caller's
-- search_path is; and they do nothing but what maintenance does.

-- Makes the partition of a day (UTC) under a name that no table has. It is made beside access_logs and then
-- attached: to make it in place would wait for all that reads or writes logs, and stop it meanwhile.
create function ezapi_add_log_partition(partition text, day date) returns void language plpgsql security definer
as $$
begin
    execute format('create table %I (like access_logs including defaults including constraints including storage)',
        partition);
    execute format('alter table access_logs attach partition %I for values from (%L) to (%L)', partition,
        day || ' 00:00:00+00', day + 1 || ' 00:00:00+00');
end $$;

-- Drops a partition that is called after a day.
create function ezapi_drop_log_partition(partition text) returns void language plpgsql security definer
as $$
declare
    victim regclass;
begin
    select c.oid into victim from pg_inherits join pg_class c on c.oid = inhrelid
    where inhparent = 'access_logs'::regclass and relname = partition and relname ~ '^access_logs_\d{8}(_\d+)?$';
    if victim is null then
        raise undefined_table using message = format('%I is not a partition of access_logs by the day', partition);
    end if;
    execute format('drop table %s', victim);
end $$;

-- Deletes entries before a time from the partition that takes what no other does, at most some of them, and
-- returns how many those were.
create function ezapi_delete_other_logs(before timestamptz, most bigint) returns bigint language plpgsql security definer
as $$
declare
    other regclass;
    deleted bigint := 0;
begin
    select partdefid into other from pg_partitioned_table
    where partrelid = 'access_logs'::regclass and partdefid <> 0;
    if other is not null then
        execute format('delete from %1$s where ctid = any (array(select ctid from %1$s where ts < $1 limit $2))', other)
            using before, most;
        get diagnostics deleted = row_count;
    end if;
    return deleted;
end $$;

do $$
declare
    signature text;
begin
    foreach signature in array array['ezapi_add_log_partition(text, date)', 'ezapi_drop_log_partition(text)',
        'ezapi_delete_other_logs(timestamptz, bigint)']
    loop
        -- pg_temp last, or a caller could put a table of his own before access_logs.
        execute format('alter function %s set search_path = %I, pg_temp', signature, current_schema());
        execute format('revoke execute on function %s from public', signature);
    end loop;
end $$;
