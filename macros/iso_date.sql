{#- 'YYYY-MM-DD' of a day counted from 1970-01-01. ClickHouse's own Date32 begins in 1900, and drivers were born before: those days
    are written by way of the same day 400 years later, when the calendar repeats. -#}
{% macro iso_date(days) -%}
multiIf(
    {{ days }} is null, null,
    {{ days }} >= -25567, toString(toDate32({{ days }})),
    concat(toString(toYear(toDate32({{ days }} + 146097)) - 400), substring(toString(toDate32({{ days }} + 146097)), 5))
)
{%- endmacro %}
