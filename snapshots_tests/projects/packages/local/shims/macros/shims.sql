{% macro clickhouse__farewell() %}from the shim{% endmacro %}
{% macro default__greeting() %}never reached{% endmacro %}
