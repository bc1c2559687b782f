{% macro m() %}{{ config.get('primary_kay') }}{% endmacro %}
