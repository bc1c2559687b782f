{% macro plain_version() %}'plain 1.0.0'{% endmacro %}
