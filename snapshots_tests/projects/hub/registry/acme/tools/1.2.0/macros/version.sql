{% macro tools_version() %}'tools 1.2.0'{% endmacro %}
