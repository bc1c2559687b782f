{% macro version() %}{{ return('tools v1') }}{% endmacro %}
