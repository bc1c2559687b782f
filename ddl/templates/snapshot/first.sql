SELECT
{%- for column in columns %}
    source_data.{{ column.name }} AS {{ column.name }},
{%- endfor %}
    {{ scd_id }} AS {{ names.scd_id }},
    {{ updated_at }} AS {{ names.updated_at }},
    {{ valid_from }} AS {{ names.valid_from }},
    {{ valid_to }} AS {{ names.valid_to }}
{%- if is_deleted %},
    'False' AS {{ names.is_deleted }}
{%- endif %}
FROM (
    SELECT
        *,
{%- for key in keys %}
        {{ key }} AS `__dbt_key_{{ loop.index }}`
        {%- if not loop.last or source_time %},{% endif %}
{%- endfor %}
{%- if source_time %}
        {{ source_time }} AS `__dbt_updated_at`
{%- endif %}
    FROM (
{{ source }}
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
    )
) AS source_data
