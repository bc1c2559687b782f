{% macro tools_version() %}'tools 2.1.0-rc1'{% endmacro %}
