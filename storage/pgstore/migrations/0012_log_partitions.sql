-- What only the owner of access_logs may do. Servers call these functions, so they can run as a role that owns
-- nothing and may create nothing. They work for the schema in which they are made, whatever the caller's
-- search_path is; and they do nothing but what maintenance does. No text in them has a backslash, which means
-- something else where the caller's standard_conforming_strings is off.

-- Lists the partitions of access_logs. What one holds is what its bounds say, whatever it is called: entries from
-- since on and before until. Both are null for the DEFAULT partition and for bounds that are not times. One that is
-- being detached, which only PostgreSQL 14 and later know, is not listed.
create function ezapi_log_partitions(out partition oid, out since timestamptz, out until timestamptz)
returns setof record language sql stable
as $$
    select inhrelid, replace(bounds[1], 'MINVALUE', '-infinity')::timestamptz,
        replace(bounds[2], 'MAXVALUE', 'infinity')::timestamptz
    from pg_inherits as i join pg_class on pg_class.oid = inhrelid,
        regexp_match(pg_get_expr(relpartbound, inhrelid), format('^FOR VALUES FROM %1$s TO %1$s$',
            '[(]''?([0-9]+-[0-9-]{5} [0-9:]{8}[.0-9]*[+]00(?: BC)?|-?infinity|MINVALUE|MAXVALUE)''?[)]')) as bounds
    where inhparent = 'access_logs'::regclass and not coalesce((to_jsonb(i)->>'inhdetachpending')::boolean, false)
$$;

-- Makes a partition under a name that no table has. It is made beside access_logs and then attached: to make it in
-- place would wait for all that reads or writes logs, and stop it meanwhile.
create function ezapi_add_log_partition(name text, since timestamptz, until timestamptz)
returns void language plpgsql security definer
as $$
begin
    execute format('create table %I (like access_logs including defaults including constraints including storage)', name);
    execute format('alter table access_logs attach partition %I for values from (%L) to (%L)', name, since, until);
end $$;

-- Drops a partition that holds nothing but entries from before a time, and says whether there was one. Nobody can
-- change its bounds between the look at them and the drop.
create function ezapi_drop_log_partition(victim oid, before timestamptz)
returns boolean language plpgsql security definer
as $$
begin
    lock table only access_logs in access exclusive mode;
    perform from ezapi_log_partitions() where partition = victim and until <= before;
    if found then
        execute format('drop table %s', victim::regclass);
    end if;
    return found;
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
    foreach signature in array array['ezapi_log_partitions()',
        'ezapi_add_log_partition(text, timestamptz, timestamptz)', 'ezapi_drop_log_partition(oid, timestamptz)',
        'ezapi_delete_other_logs(timestamptz, bigint)']
    loop
        -- pg_temp last, or a caller could put a table of his own before access_logs.
        execute format('alter function %s set search_path = %I, pg_temp', signature, current_schema());
        -- As bounds are read and written.
        execute format('alter function %s set timezone = ''UTC''', signature);
        execute format('alter function %s set datestyle = ''ISO''', signature);
        execute format('revoke execute on function %s from public', signature);
    end loop;
end $$;
