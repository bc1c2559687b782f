{% test at_least(model, column_name, minimum=1, group_by=none) %}
  {{ config(fail_calc="coalesce(sum(missing), 0)", tags=['volume']) }}
  select greatest({{ minimum }} - count({{ column_name }}), 0) as missing
  from {{ model }}
  {% if group_by %}group by {{ group_by | join(', ') }}{% endif %}
  having missing > 0
{% endtest %}

{% test expression_is_true(model, expression, column_name=none) %}
{% set column_list = '*' if should_store_failures() else '1' %}
select {{ column_list }} from {{ model }} where not({{ column_name ~ ' ' if column_name }}{{ expression }})
{% endtest %}
