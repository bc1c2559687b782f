{% macro base_version() %}'base 1.0.0'{% endmacro %}
