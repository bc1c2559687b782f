{% macro get_where_subquery(relation) -%}
    {% set where = config.get('where', '') %}
    {%- if where -%}
        {%- set where = where | replace('__today__', "toDate('2024-01-02')") -%}
        (select * from {{ relation }} where {{ where }}) as filtered
    {%- else -%}{{ relation }}{%- endif -%}
{%- endmacro %}

{% macro default__test_not_null(model, column_name) %}
select {{ column_name }} as missing from {{ model }} where {{ column_name }} is null
{% endmacro %}

{% test unique(model, column_name) %}
select {{ column_name }} as value, count() as n from {{ model }} group by value having n > 1
{% endtest %}
