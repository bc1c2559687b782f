{% macro version() %}{{ return('inner of v1') }}{% endmacro %}
