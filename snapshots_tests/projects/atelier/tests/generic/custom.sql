{% test row_count_at_least(model, n) %}
  {{ config(fail_calc="max(missing)", warn_if="!= 0", error_if=">5") }}
  select greatest(0, {{ n }} - count()) as missing from {{ model }}
{% endtest %}
