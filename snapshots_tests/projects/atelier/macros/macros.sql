{% macro query_comment(node) %}
  {%- set d = dict(app='dbt', target=target.name) -%}
  {%- do d.update(dbt_schema=target.schema) -%}
  {%- if node is not none -%}{%- do d.update(node=node.unique_id, kind=node.resource_type) -%}{%- else -%}{%- do d.update(node='internal') -%}{%- endif -%}
  {{ return(tojson(d, sort_keys=true)) }}
{% endmacro %}
{% macro wrap(word) %}{{ word }} {{ caller() }}{% endmacro %}
{% macro dbt_utils_like_values(relation, column, default=[]) -%}
  {%- if not execute -%}{{ return(default) }}{%- endif -%}
  {%- call statement('values', fetch_result=true) %}
    select distinct {{ column }} as v from {{ relation }} order by v
  {%- endcall -%}
  {%- set found = load_result('values') -%}
  {{ return(found['data'] | map('first') | list) }}
{%- endmacro %}
{% macro start_audit() %}
  create database if not exists {{ target.schema }}_audit
{% endmacro %}
{% macro after_model() %}
  {% if execute and this.schema.endswith('marts') %}
    select '{{ model.name }}', '{{ this }}', '{{ model.config.materialized }}'
  {% endif %}
{% endmacro %}
{% macro end_audit(results) %}
  {% if not execute %}{{ return('') }}{% endif %}
  {% set lines = [] %}
  {% for r in results | sort(attribute='node.unique_id') %}
    {% do lines.append("('" ~ r.node.name ~ "', '" ~ r.to_dict()['status'] ~ "', '" ~ (r.failures if r.failures is not none else -1) ~ "', '" ~ r.node.resource_type ~ "', " ~ (r.execution_time >= 0) | int ~ ", '" ~ (r.node.relation_name or '') ~ "', '" ~ (r.adapter_response.keys() | list | length > -1) ~ "', '" ~ (r.timing | map(attribute='name') | join(',')) ~ "', '" ~ r.thread_id[:6] ~ "')") %}
  {% endfor %}
  {% do run_query("create or replace table " ~ target.schema ~ "_audit.results (name String, status String, failures Int32, kind String, took UInt8, rel String, a String, t String, th String) engine = MergeTree order by name") %}
  {% if lines %}insert into {{ target.schema }}_audit.results values {{ lines | join(', ') }}{% endif %}
{% endmacro %}
{% test is_between(model, column_name, low=0, high=none) %}
{{ config(tags=['between']) }}
select {{ column_name }} from {{ model }} where {{ column_name }} < {{ low }}
{%- if high is not none %} or {{ column_name }} > {{ high }}{% endif %}
{% endtest %}
{% macro clickhouse__greeting(name) %}ch {{ name }}{% endmacro %}
{% macro default__greeting(name) %}default {{ name }}{% endmacro %}
{% macro greeting(name='x') %}{{ return(adapter.dispatch('greeting')(name)) }}{% endmacro %}
{% macro other(name='x') %}{{ return(adapter.dispatch('other', 'atelier')(name)) }}{% endmacro %}
{% macro default__other(name) %}other {{ name }} {{ varargs | length }} {{ kwargs }}{% endmacro %}
