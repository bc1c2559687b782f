SELECT
{%- for column in columns %}
    {{ column.value }} AS {{ column.name }},
{%- endfor %}
    multiIf(
        `__dbt_change` IN ('close', 'delete', 'amend'), snapshotted_data.{{ names.scd_id }},
        `__dbt_change` = 'deleted', {{ deleted_scd_id }},
        {{ scd_id }}
    ) AS {{ names.scd_id }},
    multiIf(
        `__dbt_change` IN ('close', 'delete', 'amend'), snapshotted_data.{{ names.updated_at }},
        `__dbt_change` = 'deleted', {{ run_at_as_updated }},
        {{ updated_at }}
    ) AS {{ names.updated_at }},
    multiIf(
        `__dbt_change` IN ('close', 'delete', 'amend'), snapshotted_data.{{ names.valid_from }},
        `__dbt_change` = 'deleted', {{ run_at }},
        {{ valid_from }}
    ) AS {{ names.valid_from }},
    multiIf(
        `__dbt_change` = 'close', {{ closed_at }},
        `__dbt_change` = 'delete', {{ run_at_as_valid_to }},
        {{ open_until }}
    ) AS {{ names.valid_to }},
{%- if is_deleted %}
    multiIf(
        `__dbt_change` = 'deleted', 'True',
        `__dbt_change` IN ('close', 'delete', 'amend'), snapshotted_data.{{ names.is_deleted }},
        'False'
    ) AS {{ names.is_deleted }},
{%- endif %}
    `__dbt_change`
FROM (
    SELECT
        *,
{%- for key in keys %}
        {{ key }} AS `__dbt_key_{{ loop.index }}`,
{%- endfor %}
{%- if source_time %}
        {{ source_time }} AS `__dbt_updated_at`,
{%- endif %}
        1 AS `__dbt_present`
    FROM (
{{ source }}
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
    )
) AS source_data
FULL JOIN (
    SELECT
        {{ live_columns | join(sep=", ") }},
{%- for key in keys %}
        {{ key }} AS `__dbt_key_{{ loop.index }}`,
{%- endfor %}
        1 AS `__dbt_present`
    FROM {{ relation }}
    WHERE {{ is_open }}
) AS snapshotted_data
ON
{%- for key in keys %}
    {% if not loop.first %}AND {% endif %}source_data.`__dbt_key_{{ loop.index }}` {{ key_operator }} snapshotted_data.`__dbt_key_{{ loop.index }}`
{%- endfor %}
ARRAY JOIN multiIf(
    source_data.`__dbt_present` = 0, {{ when_vanished }},
    snapshotted_data.`__dbt_present` = 0, {{ when_new }},
    {{ has_changed }}, ['close', 'update'],
    {{ when_unchanged }}
) AS `__dbt_change`
SETTINGS join_use_nulls = 0
