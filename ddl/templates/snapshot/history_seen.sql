SELECT
{%- for attribute in attributes %}
    CAST({{ attribute.name }} AS {{ attribute.type }}) AS {{ attribute.name }},
{%- endfor %}
{%- for key in keys %}
    {{ key }} AS `__dbt_key_{{ loop.index }}`,
{%- endfor %}
    tuple({% for attribute in attributes %}{{ attribute.name }}{% if not loop.last %}, {% endif %}{% endfor %}) AS `__dbt_seen`,
{%- if period %}
    {{ period }} AS `__dbt_period`,
{%- endif %}
    assumeNotNull(toDateTime64({{ observed_at }}, 6, 'UTC')) AS `__dbt_at`
FROM {{ observed }}
WHERE isNotNull({{ observed_at }})
