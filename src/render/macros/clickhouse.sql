{# ClickHouse's forms of dbt's cross-database functions, and dbt-clickhouse's own macros. #}

{%- macro is_incremental() -%}
    {%- if not execute -%}
        {%- do return(False) -%}
    {%- endif -%}
    {%- set relation = adapter.get_relation(this.database, this.schema, this.table) -%}
    {%- do return(
        relation is not none
        and relation.type == 'table'
        and model.config.materialized in ['incremental', 'distributed_incremental']
        and not should_full_refresh()) -%}
{%- endmacro -%}

{%- macro clickhouse__generate_database_name(custom_database_name=none, node=none) -%}
    {%- do return('') -%}
{%- endmacro -%}

{%- macro clickhouse__current_timestamp() -%}
    now()
{%- endmacro -%}

{%- macro clickhouse__snapshot_string_as_time(timestamp) -%}
    {%- do return("toDateTime('" ~ timestamp ~ "')") -%}
{%- endmacro -%}

{%- macro clickhouse__any_value(expression) -%}
    any({{ expression }})
{%- endmacro -%}

{%- macro clickhouse__bool_or(expression) -%}
    max({{ expression }}) > 0
{%- endmacro -%}

{% macro clickhouse__cast_bool_to_text(field) %}
  
    multiIf({{ field }} > 0, 'true', {{ field }} = 0, 'false', NULL)

{% endmacro %}

{%- macro clickhouse__hash(field) -%}
    lower(hex(MD5(toString({{ field }} ))))
{%- endmacro -%}

{%- macro clickhouse__last_day(date, datepart) -%}
    {{ dbt.dateadd('day', '-1', dbt.dateadd(datepart, '1', dbt.date_trunc(datepart, date))) }}
{%- endmacro -%}

{% macro clickhouse__split_part(string_text, delimiter_text, part_number) %}
    splitByString({{ delimiter_text }}, {{ string_text }})[{{ part_number }}]
{% endmacro %}

{% macro clickhouse__replace(field, old_chars, new_chars) %}
   replaceAll({{ field }},'{{ old_chars }}','{{ new_chars }}')
{% endmacro %}

{# An array of the values, in the order asked for, then joined. #}
{%- macro clickhouse__listagg(measure, delimiter_text, order_by_clause, limit_num) -%}
    {%- set words = (order_by_clause or '').split() -%}
    {%- if words[:2] | join(' ') | lower == 'order by' -%}
        {%- if ',' in words -%}
            {%- do exceptions.raise_compiler_error('ClickHouse does not support multiple order by fields.') -%}
        {%- endif -%}
        {%- set reverse = 'Reverse' if 'desc' in words[3:] | join | lower else '' -%}
        {%- set values = "arrayMap(x -> x.1, array" ~ reverse ~ "Sort(x -> x.2, arrayZip(array_agg(" ~ measure ~ "), array_agg(" ~ words[2] ~ "))))" -%}
    {%- else -%}
        {%- set values = "array_agg(" ~ measure ~ ")" -%}
    {%- endif -%}
    {%- if limit_num -%}
        {%- set values = "arraySlice(" ~ values ~ ", 1, " ~ limit_num ~ ")" -%}
    {%- endif -%}
    {{ "\n\n    arrayStringConcat(" ~ values ~ ", " ~ delimiter_text ~ ")" }}
{%- endmacro -%}

{% macro clickhouse__array_construct(inputs, data_type) %}
    {{ "[ " ~ inputs | join(' , ') ~ " ]" if inputs else "emptyArray" ~ data_type ~ "()" }}
    {% endmacro %}

{% macro clickhouse__array_append(array, new_element) -%}
    arrayPushBack({{ array }}, {{ new_element }})
{% endmacro %}

{% macro clickhouse__array_concat(array_1, array_2) -%}
    arrayConcat({{ array_1 }}, {{ array_2 }})
{% endmacro %}

{# The literal null becomes the type's default, since most columns are not Nullable. #}
{%- macro clickhouse__safe_cast(field, dtype) -%}
    {%- if field == 'null' -%}
        CAST(defaultValueOfTypeName('{{ dtype | replace("'", "\\'") }}') AS {{ dtype }})
    {%- else -%}
        CAST({{ field }} AS {{ dtype }})
    {%- endif -%}
{%- endmacro -%}

{% macro clickhouse__get_test_sql(main_sql, fail_calc, warn_if, error_if, limit) %}
    select
      {{ fail_calc }} as failures,
      {{ fail_calc }} {{ warn_if }} as should_warn,
      {{ fail_calc }} {{ error_if }} as should_error
    from (
      {{ clickhouse__place_limit(main_sql, limit) if limit != none else main_sql }}
    ) dbt_internal_test
{%- endmacro %}

{# A LIMIT goes before the SETTINGS of a query, which follow the marker `-- end_of_sql`. #}
{%- macro clickhouse__place_limit(query, limit) -%}
    {%- if 'settings' not in query.lower() -%}
        {{ "\n    " ~ query ~ "\n    limit " ~ limit ~ "\n    " }}
    {%- elif '-- end_of_sql' not in query.lower() -%}
        {%- do exceptions.raise_compiler_error("-- end_of_sql must be set when using ClickHouse settings") -%}
    {%- else -%}
        {%- set parts = query.split('-- end_of_sql') -%}
        {%- set limited = parts[-2] ~ "\n LIMIT " ~ limit ~ "\n" -%}
        {{ (parts[:-2] + [limited, parts[-1]]) | join('-- end_of_sql') }}
    {%- endif -%}
{%- endmacro -%}

{# Without join_use_nulls a missing parent reads as the type's default and nothing is ever found. #}
{%- macro clickhouse__test_relationships(model, column_name, to, field) -%}
    {%- set query = default__test_relationships(model, column_name, to, field).rstrip() -%}
    {{ query ~ "\n-- end_of_sql\nsettings join_use_nulls = 1\n\n" }}
{%- endmacro -%}

{%- macro clickhouse__snapshot_hash_arguments(args) -%}
    halfMD5({%- for arg in args -%}
        coalesce(cast({{ arg }} as varchar ), '')
    {% if not loop.last %} || '|' || {% endif %}
    {%- endfor -%})
{%- endmacro -%}

{# ---- relations ---------------------------------------------------------------------------------------------- #}

{% macro on_cluster_clause(relation, force_sync) %}
    {%- set cluster = adapter.get_clickhouse_cluster_name() -%}
    {%- if cluster is not none and relation.should_on_cluster %}
    ON CLUSTER {{ cluster ~ ' ' }}{{ 'SYNC' if force_sync }}
    {%- endif %}
{%- endmacro -%}

{%- macro clickhouse__list_schemas(database) -%}
    {%- do return(run_query('select name from system.databases')) -%}
{%- endmacro -%}

{%- macro clickhouse__create_schema(relation) -%}
    {%- call statement('create_schema') -%}
    create database if not exists {{ relation.without_identifier() }} {{ on_cluster_clause(relation) }} {{ adapter.clickhouse_db_engine_clause() }}
    {%- endcall -%}
{%- endmacro -%}

{%- macro clickhouse__drop_schema(relation) -%}
    {%- call statement('drop_schema') -%}
    drop database if exists {{ relation.without_identifier() }} {{ on_cluster_clause(relation) }}
    {%- endcall -%}
{%- endmacro -%}

{%- macro clickhouse__get_database(database) -%}
    {%- do return(run_query("select name, engine, comment from system.databases where name = '" ~ database ~ "'")) -%}
{%- endmacro -%}

{%- macro clickhouse__drop_relation(relation, obj_type='table') -%}
    {%- call statement('drop_relation', auto_begin=False) -%}
    drop {{ obj_type }} if exists {{ relation }} {{ on_cluster_clause(relation, True) }}
    {%- endcall -%}
{%- endmacro -%}

{%- macro clickhouse__rename_relation(from_relation, to_relation, obj_type='table') -%}
    {%- call statement('drop_relation') -%}
    drop {{ obj_type }} if exists {{ to_relation }} {{ on_cluster_clause(to_relation) }}
    {%- endcall -%}
    {%- call statement('rename_relation') -%}
    rename {{ obj_type }} {{ from_relation }} to {{ to_relation }} {{ on_cluster_clause(from_relation) }}
    {%- endcall -%}
{%- endmacro -%}

{%- macro clickhouse__truncate_relation(relation) -%}
    {%- call statement('truncate_relation') -%}
    truncate table {{ relation }} {{ on_cluster_clause(relation) }}
    {%- endcall -%}
{%- endmacro -%}

{%- macro exchange_tables_atomic(old_relation, target_relation, obj_types='TABLES') -%}
    {%- call statement('exchange_tables_atomic') -%}
    EXCHANGE {{ obj_types }} {{ old_relation }} AND {{ target_relation }} {{ on_cluster_clause(target_relation) }}
    {%- endcall -%}
{%- endmacro -%}

{%- macro clickhouse__make_temp_relation(base_relation, suffix) -%}
    {%- do return(default__make_temp_relation(base_relation, suffix)) -%}
{%- endmacro -%}

{%- macro clickhouse__get_or_create_relation(database, schema, identifier, type) -%}
    {%- set found = adapter.get_relation(database=database, schema=schema, identifier=identifier) -%}
    {%- if found -%}
        {%- do return([true, found]) -%}
    {%- endif -%}
    {%- do return([false, api.Relation.create(
        schema=schema,
        identifier=identifier,
        type=type,
        can_exchange=adapter.can_exchange(schema, type),
        can_on_cluster=adapter.should_on_cluster(config.get('materialized'), engine_clause()))]) -%}
{%- endmacro -%}

{%- macro clickhouse__get_columns_in_query(select_sql) -%}
    {%- call statement('get_columns_in_query', fetch_result=True, auto_begin=False) -%}
    select * from (
        {{ select_sql }}
    ) as __dbt_sbq
    limit 0
    {%- endcall -%}
    {%- do return(load_result('get_columns_in_query').table.columns | map(attribute='name') | list) -%}
{%- endmacro -%}

{%- macro clickhouse__alter_column_type(relation, column_name, new_column_type) -%}
    {%- call statement('alter_column_type') -%}
    alter table {{ relation }} {{ on_cluster_clause(relation) }} modify column {{ adapter.quote(column_name) }} {{ new_column_type }}
    {%- endcall -%}
{%- endmacro -%}

{# ---- tables and views ---------------------------------------------------------------------------------------- #}

{% macro engine_clause() %}
  engine = {{ config.get('engine', default='MergeTree()') }}
{%- endmacro -%}

{%- macro clickhouse_list(value) -%}
    {%- do return([value] if value is string else value) -%}
{%- endmacro -%}

{% macro partition_cols(label) %}
    {%- set columns = config.get('partition_by') -%}
    {%- if columns is not none %}
    {{ label }} ({{ clickhouse_list(columns) | join(',') }})
    {%- endif %}
{%- endmacro -%}

{% macro primary_key_clause(label) %}
    {%- set key = config.get('primary_key') -%}
    {%- if key %}
    {{ label }} {{ key if key is string else '(' ~ key | join(', ') ~ ')' }}
    {%- endif %}
{%- endmacro -%}

{% macro order_cols(label) %}
    {%- set columns = config.get('order_by') -%}
    {%- set engine = config.get('engine', default='MergeTree()') -%}
    {%- if 'MergeTree' in engine or engine in ['HDFS', 'MaterializedPostgreSQL', 'S3', 'EmbeddedRocksDB', 'Hive'] %}
      {{ label }} ({{ 'tuple()' if columns is none else clickhouse_list(columns) | join(',') }})
    {%- endif %}
{%- endmacro -%}

{% macro ttl_config(label) %}
    {%- if config.get('ttl') %}
    {{ label }} {{ config.get('ttl') }}
    {%- endif %}
{%- endmacro -%}

{% macro codec_clause(codec_name) %}
    {%- if codec_name %}
      CODEC({{ codec_name }})
    {%- endif %}
{% endmacro %}

{%- macro strip_identifier_quotes(ident) -%}
    {{ ident.strip('`"') }}
{%- endmacro -%}

{% macro create_table_or_empty(temporary, relation, sql, has_contract) -%}
    {{ config.get('sql_header', '') or '' }}
    {% if temporary -%}
    create temporary table {{ relation.identifier }}
    engine Memory
    {{ adapter.get_model_settings(model, 'Memory') }}
    as (
      {{ sql }}
    )
    {%- else -%}
    create table {{ relation }} {{ on_cluster_clause(relation) }}
    {%- if has_contract %}
    {{ get_assert_columns_equivalent(sql) }}
    {{ get_table_columns_and_constraints() }}
    {%- endif %}
    {{ engine_clause() }}
    {{ order_cols(label="order by") }}
    {{ primary_key_clause(label="primary key") }}
    {{ partition_cols(label="partition by") }}
    {{ ttl_config(label="ttl") }}
    {{ adapter.get_model_settings(model, config.get('engine', default='MergeTree')) }}
    {%- if not has_contract %}
    empty as (
      {{ sql }}
    )
    {%- endif %}
    {{ adapter.get_model_query_settings(model) }}
    {%- endif %}
{%- endmacro %}

{# Makes the table and answers the statement that fills it. #}
{%- macro clickhouse__create_table_as(temporary, relation, sql) -%}
    {%- set has_contract = (config.get('contract') or {}).get('enforced', false) -%}
    {%- call statement('create_table_empty') -%}
        {{ create_table_or_empty(temporary, relation, sql, has_contract) }}
    {%- endcall -%}
    {%- if not temporary -%}
        {%- do add_index_and_projections(relation) -%}
        {{ clickhouse__insert_into(relation, sql, has_contract) }}
    {%- endif -%}
{%- endmacro -%}

{%- macro clickhouse_projection_ddl(projection) -%}
    {%- set query, index = projection.get('query'), projection.get('index') -%}
    {%- if (query and index) or not (query or index) -%}
        {%- do exceptions.raise_compiler_error("Projection '" ~ projection.get('name') ~ "' needs either 'query' or 'index'.") -%}
    {%- elif query -%}
        PROJECTION {{ projection.get('name') }} ({{ query }})
    {%- else -%}
        {%- set columns = clickhouse_list(index) -%}
        {%- if adapter.is_before_version('26.1.1.1') -%}
            PROJECTION {{ projection.get('name') }} (SELECT _part_offset ORDER BY {{ columns | join(', ') }})
        {%- else -%}
            PROJECTION {{ projection.get('name') }} INDEX {{ '(' ~ columns | join(', ') ~ ')' if columns | length > 1 else columns[0] }} TYPE basic
        {%- endif -%}
    {%- endif -%}
{%- endmacro -%}

{%- macro add_index_and_projections(relation) -%}
    {%- set actions = [] -%}
    {%- for projection in config.get('projections', default=[]) -%}
        {%- do actions.append('ADD ' ~ clickhouse_projection_ddl(projection)) -%}
    {%- endfor -%}
    {%- for index in config.get('indexes', default=[]) -%}
        {%- do actions.append('ADD INDEX ' ~ index.get('name') ~ ' ' ~ index.get('definition')) -%}
    {%- endfor -%}
    {%- if actions -%}
        {%- call statement('add_projections_and_indexes') -%}
            ALTER TABLE {{ relation }} {{ actions | join(', ') }}
        {%- endcall -%}
    {%- endif -%}
{%- endmacro -%}

{% macro clickhouse__insert_into(target_relation, sql, has_contract, use_columns_from_sql=False) -%}
    {%- if use_columns_from_sql -%}
        {%- set columns = get_quoted_csv(clickhouse__get_columns_in_query(sql)) -%}
    {%- else -%}
        {%- set columns = adapter.get_columns_in_relation(target_relation) | map(attribute='quoted') | join(', ') -%}
    {%- endif -%}
    insert into {{ target_relation }}
        ({{ columns }})
    {%- if has_contract %}
    select {{ columns }}
    from (
        {{ sql }}
    )
    {%- else %}
    {{ sql }}
    {%- endif %}
    {{ adapter.get_model_query_settings(model) }}
{%- endmacro %}

{% macro get_sql_security_clause(relation) %}
    {%- set security = config.get('sql_security') -%}
    {%- if security == 'definer' -%}
        DEFINER = {{ config.require('definer') }} SQL SECURITY DEFINER
    {%- elif security == 'invoker' -%}
        SQL SECURITY INVOKER
    {%- elif security -%}
        {%- do exceptions.raise_compiler_error("Invalid config parameter `sql_security`. Got: `" ~ security ~ "`, but only definer | invoker allowed.") -%}
    {%- endif -%}
{% endmacro %}

{% macro clickhouse__create_view_as(relation, sql) -%}
    {{ config.get('sql_header', '') or '' }}
    create or replace view {{ relation }} {{ on_cluster_clause(relation) }} {{ get_sql_security_clause(relation) | trim }}
    {%- if (config.get('contract') or {}).get('enforced') -%}
        {%- do get_assert_columns_equivalent(sql) -%}
    {%- endif %}
    as (
    {{ sql }}
    {{ adapter.get_model_query_settings(model) }}
    )
{%- endmacro %}

{%- macro clickhouse__get_assert_columns_equivalent(sql) -%}
    {%- set wanted = (model['columns'] or {}).values() | list -%}
    {%- if not wanted -%}
        {%- do exceptions.raise_contract_error([], []) -%}
    {%- endif -%}
    {%- set found = adapter.format_columns(adapter.get_column_schema_from_query(sql, query_settings=config.get('query_settings', {}) or {})) -%}
    {%- set types = {} -%}
    {%- for column in wanted -%}
        {%- do types.update({column['name']: column['data_type']}) -%}
    {%- endfor -%}
    {%- for column in found if types.get(column['name']) != column['data_type'] -%}
        {%- do exceptions.raise_contract_error(wanted, found) -%}
    {%- endfor -%}
    {%- if found | length != wanted | length -%}
        {%- do exceptions.raise_contract_error(wanted, found) -%}
    {%- endif -%}
{%- endmacro -%}

{%- macro table_columns_and_constraints() -%}
    ({{ (adapter.render_raw_columns_constraints(raw_columns=model['columns'])
        + adapter.render_raw_model_constraints(raw_constraints=model['constraints'] or [])) | join(', ') }})
{%- endmacro -%}

{%- macro clickhouse__get_table_columns_and_constraints() -%}
    {{ return(table_columns_and_constraints()) }}
{%- endmacro -%}

{# ---- comments, grants, clones -------------------------------------------------------------------------------- #}

{%- macro clickhouse_escape_comment(comment) -%}
    {%- if comment is not string -%}
        {%- do exceptions.raise_compiler_error('cannot escape a non-string: ' ~ comment) -%}
    {%- endif -%}
    '{{ comment | replace("\\", "\\\\") | replace("'", "\\'") }}'
{%- endmacro -%}

{%- macro clickhouse__persist_docs(relation, model, for_relation, for_columns) -%}
    {%- set actions = [] -%}
    {%- if for_relation and config.persist_relation_docs() and model.description -%}
        {%- do actions.append('modify comment ' ~ clickhouse_escape_comment(model.description)) -%}
    {%- endif -%}
    {%- if for_columns and config.persist_column_docs() and model.columns -%}
        {%- set existing = adapter.get_columns_in_relation(relation) | map(attribute='name') | list -%}
        {%- for name, column in model.columns.items() if name in existing and column['description'] -%}
            {%- do actions.append('comment column `' ~ name ~ '` ' ~ clickhouse_escape_comment(column['description'])) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- if actions -%}
        {%- do run_query('alter table ' ~ relation ~ ' ' ~ on_cluster_clause(relation) ~ ' ' ~ actions | join(', ')) -%}
    {%- endif -%}
{%- endmacro -%}

{%- macro clickhouse__alter_relation_comment(relation, comment) -%}
    alter table {{ relation }} {{ on_cluster_clause(relation) }} modify comment {{ clickhouse_escape_comment(comment) }}
{%- endmacro -%}

{%- macro clickhouse__get_show_grant_sql(relation) -%}
    SELECT toString(access_type) as privilege_type, COALESCE(user_name, role_name) as grantee
    FROM system.grants WHERE table = '{{ relation.name }}' AND database = '{{ relation.schema }}'
{%- endmacro -%}

{%- macro clickhouse__get_grant_sql(relation, privilege, grantees) -%}
    grant {{ on_cluster_clause(relation) }} {{ privilege }} on {{ relation }} to {{ grantees | join(', ') }}
{%- endmacro -%}

{%- macro clickhouse__get_revoke_sql(relation, privilege, grantees) -%}
    revoke {{ on_cluster_clause(relation) }} {{ privilege }} on {{ relation }} from {{ grantees | join(', ') }}
{%- endmacro -%}

{%- macro clickhouse__call_dcl_statements(dcl_statement_list) -%}
    {%- for dcl_statement in dcl_statement_list -%}
        {%- call statement('dcl') -%}
            {{ dcl_statement }}
        {%- endcall -%}
    {%- endfor -%}
{%- endmacro -%}

{%- macro clickhouse__can_clone_table() -%}{{ return(True) }}{%- endmacro -%}

{%- macro clickhouse_s3source(config_name='', bucket='', path='', fmt='', structure='', aws_access_key_id='', aws_secret_access_key='', role_arn='', compression='', external_id='') %}
  {% if config_name and not config_name.lower().endswith('s3') -%}
        {%- do exceptions.raise_compiler_error("S3 configuration should end with 's3'") -%}
    {%- endif %}
  {% set configured = config.get(config_name, {}) %}
  {{ adapter.s3source_clause(
        config_name=config_name, s3_model_config=configured, bucket=bucket, path=path, fmt=fmt, structure=structure,
        aws_access_key_id=aws_access_key_id, aws_secret_access_key=aws_secret_access_key, role_arn=role_arn,
        compression=compression, external_id=external_id) }}
{% endmacro %}

{# The target of a materialized view that fills a table another model makes; read from the model's text. #}
{% macro materialization_target_table(target_relation) %}
-- materialization_target_table: {{ target_relation }}
{% endmacro %}

{%- macro get_relation_from_string(relation_string) -%}
    {%- set parts = relation_string.split('.') -%}
    {%- if parts | length < 2 -%}
        {%- do exceptions.raise_compiler_error('Invalid relation string "' ~ relation_string ~ '". Expected format: schema.table') -%}
    {%- endif -%}
    {%- do return(adapter.get_relation(database='', schema=strip_identifier_quotes(parts[0]), identifier=strip_identifier_quotes(parts[1]))) -%}
{%- endmacro -%}
