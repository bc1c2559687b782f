{% macro tools_version() %}'tools 1.0.0'{% endmacro %}
