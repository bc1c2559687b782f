{% macro cents_to_units(column, places=2) -%}
    round({{ column }} / 100, {{ places }})
{%- endmacro %}

{% macro full_name(first, last) %}concat({{ first }}, ' ', {{ last }}){% endmacro %}

{% test positive(model, column_name) %}
select * from {{ model }} where {{ column_name }} <= 0
{% endtest %}
