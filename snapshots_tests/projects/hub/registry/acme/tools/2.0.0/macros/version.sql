{% macro tools_version() %}'tools 2.0.0'{% endmacro %}
