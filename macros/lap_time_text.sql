{#- Milliseconds as the timing screen shows them: 1:32.608, or 2:05:05.152 when a red flag made it hours. Null stays null. -#}
{% macro lap_time_text(millis) -%}
concat(
        if({{ millis }} >= 3600000, concat(toString(intDiv({{ millis }}, 3600000)), ':', leftPad(toString(intDiv({{ millis }}, 60000) % 60), 2, '0')), toString(intDiv({{ millis }}, 60000))),
        ':', leftPad(toString(intDiv({{ millis }} % 60000, 1000)), 2, '0'),
        '.', leftPad(toString({{ millis }} % 1000), 3, '0')
    )
{%- endmacro %}
