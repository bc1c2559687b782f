{% macro version() %}{{ return('tools v3') }}{% endmacro %}
