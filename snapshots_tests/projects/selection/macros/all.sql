{% macro my_hook() %}select 'end'{% endmacro %}
{# comment #}
{% macro clickhouse__help() %}7{% endmacro %}
{% macro cents(col, places=2) -%}
  round({{ col }}/100, {{ places }})
{%- endmacro %}
{% macro uses() %}{{ cents('x') }} {{ ref('stg_a') }}{% endmacro %}
