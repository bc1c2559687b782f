{% macro version() %}{{ return('tools v2') }}{% endmacro %}
