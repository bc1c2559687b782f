{# What a snapshot asks about changes. A project's own strategy is a macro snapshot_<name>_strategy that answers the same
   dict. #}

{%- macro strategy_dispatch(name) -%}
    {%- set package, search = (name.split('.', 1) if '.' in name else [none, name]) -%}
    {%- set where = context if package is none else context.get(package) -%}
    {%- if where is none -%}
        {%- do exceptions.raise_compiler_error("Could not find package '" ~ package ~ "', called with '" ~ name ~ "'") -%}
    {%- endif -%}
    {%- set found = where.get('snapshot_' ~ search ~ '_strategy') -%}
    {%- if found is none -%}
        {%- do exceptions.raise_compiler_error(
            "The specified strategy macro '" ~ search ~ "' was not found in package '" ~ package ~ "'") -%}
    {%- endif -%}
    {%- do return(found) -%}
{%- endmacro -%}

{%- macro default__snapshot_hash_arguments(args) -%}
    md5({%- for arg in args -%}
        coalesce(cast({{ arg }} as varchar ), '')
        {% if not loop.last %} || '|' || {% endif %}
    {%- endfor -%})
{%- endmacro -%}

{%- macro get_snapshot_table_column_names() -%}
    {%- set names = {} -%}
    {%- for name in ['dbt_valid_to', 'dbt_valid_from', 'dbt_scd_id', 'dbt_updated_at', 'dbt_is_deleted'] -%}
        {%- do names.update({name: name}) -%}
    {%- endfor -%}
    {%- do return(names) -%}
{%- endmacro -%}

{%- macro snapshot_timestamp_strategy(node, snapshotted_rel, current_rel, model_config, target_exists) -%}
    {%- set key, updated_at = config.get('unique_key'), config.get('updated_at') -%}
    {%- set hard_deletes = adapter.get_hard_deletes_behavior(config) -%}
    {%- set columns = config.get('snapshot_table_column_names') or get_snapshot_table_column_names() -%}
    {%- do return({
        'unique_key': key,
        'updated_at': updated_at,
        'row_changed': '(' ~ snapshotted_rel ~ '.' ~ columns.dbt_valid_from ~ ' < ' ~ current_rel ~ '.' ~ updated_at ~ ')',
        'scd_id': snapshot_hash_arguments(api.Relation.scd_args(key, updated_at)),
        'invalidate_hard_deletes': hard_deletes == 'invalidate',
        'hard_deletes': hard_deletes
    }) -%}
{%- endmacro -%}

{# Whether the query has columns that the snapshot lacks, and the columns to compare. #}
{%- macro snapshot_check_all_get_existing_columns(node, target_exists, check_cols_config) -%}
    {%- if not target_exists -%}
        {%- do return((false, [])) -%}
    {%- endif -%}
    {%- set relation = adapter.get_relation(database=node.database, schema=node.schema, identifier=node.alias) -%}
    {%- if check_cols_config == 'all' -%}
        {%- set wanted = get_columns_in_query(node['compiled_code']) -%}
    {%- elif check_cols_config is iterable and check_cols_config -%}
        {%- set wanted = get_columns_in_query(
            'select ' ~ check_cols_config | join(', ') ~ ' from (\n' ~ node['compiled_code'] ~ '\n) subq') -%}
    {%- else -%}
        {%- do exceptions.raise_compiler_error("Invalid value for 'check_cols': " ~ check_cols_config) -%}
    {%- endif -%}
    {%- set existing = adapter.get_columns_in_relation(relation) | map(attribute='name') | list -%}
    {%- set shared = [] -%}
    {%- for column in wanted if column in existing -%}
        {%- do shared.append(adapter.quote(column)) -%}
    {%- endfor -%}
    {%- do return((shared | length < wanted | length, shared)) -%}
{%- endmacro -%}

{%- macro snapshot_check_strategy(node, snapshotted_rel, current_rel, model_config, target_exists) -%}
    {%- set key = config.get('unique_key') -%}
    {%- set hard_deletes = adapter.get_hard_deletes_behavior(config) -%}
    {%- set updated_at = config.get('updated_at') or snapshot_get_time() -%}
    {%- set column_added, columns = snapshot_check_all_get_existing_columns(node, target_exists, config.get('check_cols')) -%}
    {%- set differences = [] -%}
    {%- for column in columns -%}
        {%- set old, new = snapshotted_rel ~ '.' ~ column, current_rel ~ '.' ~ column -%}
        {%- do differences.append(
            old ~ ' != ' ~ new ~ ' or (' ~ old ~ ' is null and ' ~ new ~ ' is not null) or (' ~ old ~ ' is not null and '
            ~ new ~ ' is null)') -%}
    {%- endfor -%}
    {%- do return({
        'unique_key': key,
        'updated_at': updated_at,
        'row_changed': '(' ~ (get_true_sql() if column_added else differences | join(' or ')) ~ ')',
        'scd_id': snapshot_hash_arguments(api.Relation.scd_args(key, updated_at)),
        'invalidate_hard_deletes': hard_deletes == 'invalidate',
        'hard_deletes': hard_deletes
    }) -%}
{%- endmacro -%}

{%- macro default__build_snapshot_table(strategy, sql) -%}
    {%- set columns = config.get('snapshot_table_column_names') or get_snapshot_table_column_names() -%}
    select *,
        {{ strategy.scd_id }} as {{ columns.dbt_scd_id }},
        {{ strategy.updated_at }} as {{ columns.dbt_updated_at }},
        {{ strategy.updated_at }} as {{ columns.dbt_valid_from }},
        nullif({{ strategy.updated_at }}, {{ strategy.updated_at }}) as {{ columns.dbt_valid_to }}
    from (
        {{ sql }}
    ) sbq
{%- endmacro -%}

{%- macro default__post_snapshot(staging_relation) -%}{%- endmacro -%}
