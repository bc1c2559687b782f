{% macro insists(what) %}
  {% if var('broken', false) %}{{ exceptions.raise_compiler_error('not while it is broken') }}{% endif %}
  {% do print('insisted on ' ~ what) %}
{% endmacro %}

{% macro arrives() %}
  {% do run_query("insert into side_again_prod.base select 4, toDateTime('2024-01-04 00:00:00', 'UTC')") %}
{% endmacro %}
