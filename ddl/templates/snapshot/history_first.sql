SELECT
{%- for column in columns %}
    {{ column.value }} AS {{ column.name }},
{%- endfor %}
    {{ scd_id }} AS {{ names.scd_id }},
    if(version.`__dbt_present` = 1, version.`__dbt_from`, {{ run_at }}) AS {{ names.updated_at }},
    if(version.`__dbt_present` = 1, version.`__dbt_from`, {{ run_at }}) AS {{ names.valid_from }},
    ifNull(if(version.`__dbt_present` = 1, version.`__dbt_until`, NULL), {{ open_until }}) AS {{ names.valid_to }}
{%- if is_deleted %},
    'False' AS {{ names.is_deleted }}
{%- endif %}
FROM (
    SELECT *, 1 AS `__dbt_present`
    FROM (
{{ versions }}
    )
) AS version
FULL JOIN (
    SELECT
        *,
{%- for key in keys %}
        {{ key }} AS `__dbt_key_{{ loop.index }}`,
{%- endfor %}
        1 AS `__dbt_present`
    FROM (
{{ source }}
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
    )
) AS source_data
ON
{%- for key in keys %}
    {% if not loop.first %}AND {% endif %}version.`__dbt_key_{{ loop.index }}` = source_data.`__dbt_key_{{ loop.index }}`
{%- endfor %}
SETTINGS join_use_nulls = 0
