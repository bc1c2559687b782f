{% macro base_version() %}'base 0.9.0'{% endmacro %}
