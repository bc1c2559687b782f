{% macro clickhouse__surrogate_key(fields) %}lower(hex(sipHash64({{ fields | join(", '|', ") }}))){% endmacro %}
