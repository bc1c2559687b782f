{% macro version() %}{{ return('base of v2') }}{% endmacro %}
