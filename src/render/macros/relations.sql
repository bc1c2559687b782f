{# Relations, columns, grants and comments, for materializations and operations that projects write. #}

{%- macro load_cached_relation(relation) -%}
    {%- do return(adapter.get_relation(database=relation.database, schema=relation.schema, identifier=relation.identifier)) -%}
{%- endmacro -%}

{%- macro load_relation(relation) -%}
    {%- do return(load_cached_relation(relation)) -%}
{%- endmacro -%}

{%- macro make_temp_relation(base_relation, suffix='__dbt_tmp') -%}
    {%- if suffix == '__dbt_tmp' and model.batch -%}
        {%- set suffix = suffix ~ '_' ~ model.batch.id -%}
    {%- endif -%}
    {%- do return(adapter.dispatch('make_temp_relation', 'dbt')(base_relation, suffix)) -%}
{%- endmacro -%}

{%- macro default__make_temp_relation(base_relation, suffix) -%}
    {%- do return(base_relation.incorporate(path={'identifier': base_relation.identifier ~ suffix})) -%}
{%- endmacro -%}

{%- macro default__make_intermediate_relation(base_relation, suffix) -%}
    {%- do return(default__make_temp_relation(base_relation, suffix)) -%}
{%- endmacro -%}

{%- macro default__make_backup_relation(base_relation, backup_relation_type, suffix) -%}
    {%- do return(base_relation.incorporate(path={'identifier': base_relation.identifier ~ suffix}, type=backup_relation_type)) -%}
{%- endmacro -%}

{%- macro drop_relation_if_exists(relation) -%}
    {%- if relation is not none -%}
        {%- do adapter.drop_relation(relation) -%}
    {%- endif -%}
{%- endmacro -%}

{%- macro default__drop_table(relation) -%}
    drop table if exists {{ relation.render() }}
{%- endmacro -%}

{%- macro default__drop_view(relation) -%}
    drop view if exists {{ relation.render() }}
{%- endmacro -%}

{%- macro default__get_drop_sql(relation) -%}
    drop {{ {'view': 'view', 'materialized_view': 'view', 'dictionary': 'dictionary'}.get(relation.type, 'table') }} if exists {{ relation.render() }}
{%- endmacro -%}

{%- macro default__get_rename_sql(relation, new_name) -%}
    rename table {{ relation.render() }} to {{ relation.incorporate(path={'identifier': new_name}).render() }}
{%- endmacro -%}

{%- macro default__drop_schema_named(schema_name) -%}
    {%- do adapter.drop_schema(api.Relation.create(schema=schema_name)) -%}
{%- endmacro -%}

{%- macro default__information_schema_name(database) -%}
    INFORMATION_SCHEMA
{%- endmacro -%}

{%- macro default__check_schema_exists(information_schema, schema) -%}
    {%- do return(run_query("select count() from system.databases where name = '" ~ schema ~ "'")) -%}
{%- endmacro -%}

{%- macro default__get_columns_in_relation(relation) -%}
    {%- do return(adapter.get_columns_in_relation(relation)) -%}
{%- endmacro -%}

{%- macro sql_convert_columns_in_relation(table) -%}
    {%- set columns = [] -%}
    {%- for row in table -%}
        {%- do columns.append(api.Column(*row)) -%}
    {%- endfor -%}
    {%- do return(columns) -%}
{%- endmacro -%}

{%- macro get_list_of_column_names(columns) -%}
    {%- do return(columns | map(attribute='name') | list) -%}
{%- endmacro -%}

{% macro default__get_empty_subquery_sql(select_sql, select_sql_header=none) %}
    {%- if select_sql_header is not none -%}
    {{ select_sql_header }}
    {%- endif -%}
    select * from (
        {{ select_sql }}
    ) as __dbt_sbq
    where false
    limit 0
{% endmacro %}

{%- macro default__get_empty_schema_sql(columns) -%}
    {%- set untyped = [] -%}
    select
    {% for name, column in columns.items() -%}
        {%- if column['data_type'] is not defined -%}
            {%- do untyped.append(column['name']) -%}
        {%- endif %}
      {{ cast('null', column['data_type']) | trim }} as {{ adapter.quote(column['name']) if column.get('quote') else column['name'] }}{{ ", " if not loop.last }}
    {%- endfor -%}
    {%- if untyped -%}
        {%- do exceptions.column_type_missing(column_names=untyped) -%}
    {%- endif -%}
{%- endmacro -%}

{%- macro get_column_schema_from_query(select_sql, select_sql_header=none) -%}
    {%- do return(adapter.get_column_schema_from_query(get_empty_subquery_sql(select_sql, select_sql_header))) -%}
{%- endmacro -%}

{%- macro format_columns(columns) -%}
    {%- set formatted = [] -%}
    {%- for column in columns -%}
        {%- do formatted.append(format_column(column)) -%}
    {%- endfor -%}
    {%- do return(formatted) -%}
{%- endmacro -%}

{%- macro default__format_column(column) -%}
    {%- do return({'name': column.name, 'data_type': column.dtype, 'formatted': column.column.lower() ~ ' ' ~ column.dtype}) -%}
{%- endmacro -%}

{% macro default__get_select_subquery(sql) %}
    select {{ adapter.dispatch('get_column_names', 'dbt')() }}
    from (
        {{ sql }}
    ) as model_subq
{%- endmacro %}

{%- macro default__get_column_names() -%}
    {%- for column in model.columns.values() -%}
        {{ adapter.quote(column['name']) if column.get('quote') else column['name'] }}{{ ", " if not loop.last }}
    {%- endfor -%}
{%- endmacro -%}

{%- macro get_quoted_csv(column_names) -%}
    {%- set quoted = [] -%}
    {%- for name in column_names -%}
        {%- do quoted.append(adapter.quote(name)) -%}
    {%- endfor -%}
    {%- do return(quoted | join(', ')) -%}
{%- endmacro -%}

{%- macro diff_columns(source_columns, target_columns) -%}
    {%- set known = target_columns | map(attribute='column') | list -%}
    {%- do return(source_columns | rejectattr('name', 'in', known) | list) -%}
{%- endmacro -%}

{%- macro default__diff_column_data_types(source_columns, target_columns) -%}
    {%- set changed = [] -%}
    {%- for source in source_columns -%}
        {%- for target in target_columns if target.name == source.name -%}
            {%- if source.data_type != target.data_type and not source.can_expand_to(other_column=target) -%}
                {%- do changed.append({'column_name': target.name, 'new_type': source.data_type}) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- do return(changed) -%}
{%- endmacro -%}

{%- macro default__get_merge_update_columns(merge_update_columns, merge_exclude_columns, dest_columns) -%}
    {%- if merge_update_columns and merge_exclude_columns -%}
        {%- do exceptions.raise_compiler_error(
            'Model cannot specify merge_update_columns and merge_exclude_columns. Please update model to use only one config') -%}
    {%- elif merge_update_columns -%}
        {%- do return(merge_update_columns) -%}
    {%- endif -%}
    {%- set excluded = (merge_exclude_columns or []) | map('lower') | list -%}
    {%- set kept = [] -%}
    {%- for column in dest_columns if column.column | lower not in excluded -%}
        {%- do kept.append(column.quoted) -%}
    {%- endfor -%}
    {%- do return(kept) -%}
{%- endmacro -%}

{%- macro incremental_validate_on_schema_change(on_schema_change, default='ignore') -%}
    {%- if on_schema_change in ['sync_all_columns', 'append_new_columns', 'fail', 'ignore'] -%}
        {%- do return(on_schema_change) -%}
    {%- endif -%}
    {%- do log('Invalid value for on_schema_change (' ~ on_schema_change ~ ') specified. Setting default value of ' ~ default ~ '.') -%}
    {%- do return(default) -%}
{%- endmacro -%}

{%- macro default__check_for_schema_changes(source_relation, target_relation) -%}
    {%- set source = adapter.get_columns_in_relation(source_relation) -%}
    {%- set target = adapter.get_columns_in_relation(target_relation) -%}
    {%- set added, dropped, changed = diff_columns(source, target), diff_columns(target, source), diff_column_data_types(source, target) -%}
    {%- do return({
        'schema_changed': (added or dropped or changed) | length > 0,
        'source_not_in_target': added,
        'target_not_in_source': dropped,
        'source_columns': source,
        'target_columns': target,
        'new_target_types': changed
    }) -%}
{%- endmacro -%}

{%- macro default__sync_column_schemas(on_schema_change, target_relation, schema_changes_dict) -%}
    {%- set sync = on_schema_change == 'sync_all_columns' -%}
    {%- set added = schema_changes_dict['source_not_in_target'] -%}
    {%- set dropped = schema_changes_dict['target_not_in_source'] if sync else [] -%}
    {%- if added or dropped -%}
        {%- do alter_relation_add_remove_columns(target_relation, added, dropped) -%}
    {%- endif -%}
    {%- for change in schema_changes_dict['new_target_types'] if sync -%}
        {%- do alter_column_type(target_relation, change['column_name'], change['new_type']) -%}
    {%- endfor -%}
{%- endmacro -%}

{%- macro default__process_schema_changes(on_schema_change, source_relation, target_relation) -%}
    {%- if on_schema_change == 'ignore' -%}
        {%- do return({}) -%}
    {%- endif -%}
    {%- set changes = check_for_schema_changes(source_relation, target_relation) -%}
    {%- if changes['schema_changed'] and on_schema_change == 'fail' -%}
        {%- do exceptions.raise_compiler_error(
            "The columns of the model and of " ~ target_relation ~ " differ. Only in the model: "
            ~ changes['source_not_in_target'] ~ ". Only in the table: " ~ changes['target_not_in_source']
            ~ ". New types: " ~ changes['new_target_types']
            ~ ". Set on_schema_change to append_new_columns or sync_all_columns, or run with --full-refresh.") -%}
    {%- elif changes['schema_changed'] -%}
        {%- do sync_column_schemas(on_schema_change, target_relation, changes) -%}
    {%- endif -%}
    {%- do return(changes['source_columns']) -%}
{%- endmacro -%}

{%- macro default__get_or_create_relation(database, schema, identifier, type) -%}
    {%- set found = adapter.get_relation(database=database, schema=schema, identifier=identifier) -%}
    {%- do return([true, found] if found else [false, api.Relation.create(schema=schema, identifier=identifier, type=type)]) -%}
{%- endmacro -%}

{%- macro create_table_as(temporary, relation, compiled_code, language='sql') -%}
    {%- if language != 'sql' -%}
        {%- do exceptions.raise_compiler_error('create_table_as() takes SQL only, not ' ~ language) -%}
    {%- endif -%}
    {{ return(adapter.dispatch('create_table_as', 'dbt')(temporary, relation, compiled_code)) }}
{%- endmacro -%}

{%- macro default__get_create_table_as_sql(temporary, relation, sql) -%}
    {{ return(create_table_as(temporary, relation, sql)) }}
{%- endmacro -%}

{%- macro default__get_create_view_as_sql(relation, sql) -%}
    {{ return(create_view_as(relation, sql)) }}
{%- endmacro -%}

{%- macro default__get_create_sql(relation, sql) -%}
    {{ return(create_view_as(relation, sql) if relation.is_view else create_table_as(false, relation, sql)) }}
{%- endmacro -%}

{%- macro default__get_replace_sql(existing_relation, target_relation, sql) -%}
    {{ return(get_create_sql(target_relation, sql)) }}
{%- endmacro -%}

{%- macro default__create_columns(relation, columns) -%}
    {%- for column in columns -%}
        {%- call statement() -%}
            alter table {{ relation.render() }} add column {{ adapter.quote(column.name) }} {{ column.data_type }}
        {%- endcall -%}
    {%- endfor -%}
{%- endmacro -%}

{%- macro default__alter_relation_add_remove_columns(relation, add_columns, remove_columns) -%}
    {%- set actions = [] -%}
    {%- for column in add_columns or [] -%}
        {%- do actions.append('add column ' ~ column.quoted ~ ' ' ~ column.data_type) -%}
    {%- endfor -%}
    {%- for column in remove_columns or [] -%}
        {%- do actions.append('drop column ' ~ column.quoted) -%}
    {%- endfor -%}
    {%- if actions -%}
        {%- do run_query('alter table ' ~ relation.render() ~ ' ' ~ actions | join(', ')) -%}
    {%- endif -%}
{%- endmacro -%}

{%- macro default__copy_grants() -%}{{ return(True) }}{%- endmacro -%}
{%- macro default__support_multiple_grantees_per_dcl_statement() -%}{{ return(True) }}{%- endmacro -%}

{%- macro should_revoke(existing_relation, full_refresh_mode=True) -%}
    {%- if not existing_relation -%}
        {%- do return(False) -%}
    {%- endif -%}
    {%- do return(copy_grants() if full_refresh_mode else True) -%}
{%- endmacro -%}

{%- macro default__get_dcl_statement_list(relation, grant_config, get_dcl_macro) -%}
    {%- set statements = [] -%}
    {%- for privilege, grantees in grant_config.items() if grantees -%}
        {%- if support_multiple_grantees_per_dcl_statement() -%}
            {%- do statements.append(get_dcl_macro(relation, privilege, grantees)) -%}
        {%- else -%}
            {%- for grantee in grantees -%}
                {%- do statements.append(get_dcl_macro(relation, privilege, [grantee])) -%}
            {%- endfor -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do return(statements) -%}
{%- endmacro -%}

{%- macro default__apply_grants(relation, grant_config, should_revoke=True) -%}
    {%- if grant_config -%}
        {%- set granted = adapter.standardize_grants_dict(run_query(get_show_grant_sql(relation))) if should_revoke else {} -%}
        {%- set statements =
            get_dcl_statement_list(relation, diff_of_two_dicts(granted, grant_config), get_revoke_sql)
            + get_dcl_statement_list(relation, diff_of_two_dicts(grant_config, granted), get_grant_sql) -%}
        {%- if statements -%}
            {%- do call_dcl_statements(statements) -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro -%}

{%- macro default__can_clone_table() -%}{{ return(False) }}{%- endmacro -%}
