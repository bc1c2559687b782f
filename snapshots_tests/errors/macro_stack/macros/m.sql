{% macro outer() %}{{ inner() }}{% endmacro %}
{% macro inner() %}
  {{ nothing_here() }}
{% endmacro %}
