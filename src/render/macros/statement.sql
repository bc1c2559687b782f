{# Running SQL from templates, and the switches that models and materializations ask for. #}

{%- macro statement(name=None, fetch_result=False, auto_begin=True, language='sql') -%}
    {%- if execute -%}
        {%- set compiled_code = caller() -%}
        {%- if language != 'sql' -%}
            {%- do exceptions.raise_compiler_error("statement() runs SQL only, not " ~ language) -%}
        {%- endif -%}
        {%- if name == 'main' -%}
            {%- do log('Writing runtime sql for node "' ~ model['unique_id'] ~ '"') -%}
            {%- do write(compiled_code) -%}
        {%- endif -%}
        {%- set response, table = adapter.execute(compiled_code, auto_begin=auto_begin, fetch=fetch_result) -%}
        {%- if name is not none -%}
            {%- do store_result(name, response=response, agate_table=table) -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro -%}

{%- macro noop_statement(name=None, message=None, code=None, rows_affected=None, res=None) -%}
    {%- set sql = caller() -%}
    {%- if name == 'main' -%}
        {%- do write(sql) -%}
    {%- endif -%}
    {%- if name is not none -%}
        {%- do store_raw_result(name, message=message, code=code, rows_affected=rows_affected, agate_table=res) -%}
    {%- endif -%}
{%- endmacro -%}

{%- macro run_query(sql) -%}
    {%- call statement('run_query_statement', fetch_result=true, auto_begin=false) -%}
        {{ sql }}
    {%- endcall -%}
    {%- do return(load_result('run_query_statement').table) -%}
{%- endmacro -%}

{%- macro set_sql_header(config) -%}
    {{ config.set('sql_header', caller()) }}
{%- endmacro -%}

{%- macro should_full_refresh() -%}
    {%- set configured = config.get('full_refresh') -%}
    {%- do return(flags.FULL_REFRESH if configured is none else configured) -%}
{%- endmacro -%}

{%- macro should_store_failures() -%}
    {%- set configured = config.get('store_failures') -%}
    {%- do return(flags.STORE_FAILURES if configured is none else configured) -%}
{%- endmacro -%}

{%- macro run_hooks(hooks, inside_transaction=True) -%}
    {%- for hook in hooks if hook.get('transaction', true) == inside_transaction -%}
        {%- set sql = render(hook.get('sql')) | trim -%}
        {%- if sql -%}
            {%- call statement(auto_begin=inside_transaction) -%}
                {{ sql }}
            {%- endcall -%}
        {%- endif -%}
    {%- endfor -%}
{%- endmacro -%}

{% macro make_hook_config(sql, inside_transaction) %}
    {{ tojson({'sql': sql, 'transaction': inside_transaction}) }}
{% endmacro %}

{% macro before_begin(sql) %}
    {{ make_hook_config(sql, inside_transaction=False) }}
{% endmacro %}

{% macro in_transaction(sql) %}
    {{ make_hook_config(sql, inside_transaction=True) }}
{% endmacro %}

{% macro after_commit(sql) %}
    {{ make_hook_config(sql, inside_transaction=False) }}
{% endmacro %}

{% macro get_show_sql(compiled_code, sql_header, limit) -%}
  {%- if sql_header is not none -%}
  {{ sql_header }}
  {%- endif %}
  {{ get_limit_subquery_sql(compiled_code, limit) }}
{% endmacro %}

{%- macro get_limit_subquery_sql(sql, limit) -%}
  {{ adapter.dispatch('get_limit_sql', 'dbt')(sql, limit) }}
{%- endmacro -%}

{% macro default__get_limit_sql(sql, limit) %}
  {{ sql }}
  {% if limit is not none %}
  limit {{ limit }}
  {%- endif -%}
{% endmacro %}

{%- macro default__validate_sql(sql) -%}
    {%- call statement('validate_sql') -%}
        explain {{ sql }}
    {%- endcall -%}
    {%- do return(load_result('validate_sql')) -%}
{%- endmacro -%}

{%- macro default__collect_freshness(source, loaded_at_field, filter) -%}
    {%- call statement('collect_freshness', fetch_result=True, auto_begin=False) -%}
    select
      max({{ loaded_at_field }}) as max_loaded_at,
      {{ current_timestamp() }} as snapshotted_at
    from {{ source }}
    {% if filter -%}
    where {{ filter }}
    {%- endif %}
    {%- endcall -%}
    {%- do return(load_result('collect_freshness')) -%}
{%- endmacro -%}

{%- macro default__collect_freshness_custom_sql(source, loaded_at_query) -%}
    {%- call statement('collect_freshness_custom_sql', fetch_result=True, auto_begin=False) -%}
    with source_query as (
      {{ loaded_at_query }}
    )
    select
      (select * from source_query) as max_loaded_at,
      {{ current_timestamp() }} as snapshotted_at
    {%- endcall -%}
    {%- do return(load_result('collect_freshness_custom_sql')) -%}
{%- endmacro -%}
