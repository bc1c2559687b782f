{% macro version() %}{{ return('base of v1') }}{% endmacro %}
