{% macro help() %}{{ return(adapter.dispatch('help', 'pkg')()) }}{% endmacro %}
{% macro default__help() %}42{% endmacro %}
{% test pk_test(model, column_name, arg=1) %}
{{ config(fail_calc='sum(x)', warn_if='>1') }}
select * from {{ model }} where {{ column_name }} = {{ arg }}
{% endtest %}
