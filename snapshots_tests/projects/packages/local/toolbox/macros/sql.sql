{% macro star(from, except=[], prefix='') -%}
    {{ return(adapter.dispatch('star', 'toolbox')(from, except, prefix)) }}
{%- endmacro %}
{% macro default__star(from, except, prefix) -%}
    {%- if not execute -%}{{ return('*') }}{%- endif -%}
    {%- set wanted = [] -%}
    {%- for column in adapter.get_columns_in_relation(from) if column.name | lower not in except | map('lower') | list -%}
        {%- do wanted.append(prefix ~ adapter.quote(column.name)) -%}
    {%- endfor -%}
    {{ return(wanted | join(',\n    ')) }}
{%- endmacro %}

{% macro column_values(table, column, default=none) %}
    {%- if not execute -%}{{ return(default or []) }}{%- endif -%}
    {%- call statement('column_values', fetch_result=true) -%}
        select {{ column }} as value, count(*) as n from {{ table }} group by {{ column }} order by n desc, value
    {%- endcall -%}
    {%- set found = load_result('column_values') -%}
    {{ return(found['data'] | map(attribute=0) | list) }}
{% endmacro %}

{% macro pivot(column, values, agg='sum', then_value=1, else_value=0, prefix='', suffix='') %}
  {%- for value in values %}
    {{ agg }}(case when {{ column }} = '{{ value }}' then {{ then_value }} else {{ else_value }} end) as {{ adapter.quote(prefix ~ value ~ suffix) }}
    {%- if not loop.last %},{% endif %}
  {%- endfor %}
{% endmacro %}

{% macro surrogate_key(fields) %}{{ return(adapter.dispatch('surrogate_key', 'toolbox')(fields)) }}{% endmacro %}
{% macro default__surrogate_key(fields) %}
{%- set parts = [] -%}
{%- for field in fields -%}
    {%- do parts.append("coalesce(cast(" ~ field ~ " as " ~ dbt.type_string() ~ "), '_null_')") -%}
    {%- if not loop.last %}{%- do parts.append("'-'") -%}{%- endif -%}
{%- endfor -%}
{{ dbt.hash(dbt.concat(parts)) }}
{%- endmacro %}

{% macro union_relations(relations, source_column='_from') %}
{%- set columns = {} -%}
{%- for relation in relations -%}
    {%- for column in adapter.get_columns_in_relation(relation) -%}
        {%- if column.name not in columns -%}{%- do columns.update({column.name: column.dtype}) -%}{%- endif -%}
    {%- endfor -%}
{%- endfor -%}
{%- for relation in relations %}
(
    select cast({{ dbt.string_literal(relation.identifier) }} as {{ dbt.type_string() }}) as {{ source_column }}
    {%- set own = adapter.get_columns_in_relation(relation) | map(attribute='name') | list %}
    {%- for name, type in columns.items() %},
        cast({{ name if name in own else 'null' }} as {{ type if name in own else 'Nullable(' ~ type ~ ')' }}) as {{ name }}
    {%- endfor %}
    from {{ relation }}
)
{% if not loop.last %}union all{% endif -%}
{%- endfor -%}
{% endmacro %}

{% macro greeting() %}{{ return(adapter.dispatch('greeting', 'toolbox')()) }}{% endmacro %}
{% macro default__greeting() %}from the toolbox{% endmacro %}
{% macro clickhouse__greeting() %}from the toolbox, for ClickHouse{% endmacro %}
{% macro farewell() %}{{ return(adapter.dispatch('farewell', 'toolbox')()) }}{% endmacro %}
{% macro default__farewell() %}default{% endmacro %}
