{% macro version() %}{{ return('inner of v2') }}{% endmacro %}
