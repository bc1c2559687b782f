{% macro r() %}{{ r() }}{% endmacro %}
