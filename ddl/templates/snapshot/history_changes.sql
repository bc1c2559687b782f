WITH
    versions AS (
        SELECT *
        FROM (
{{ versions }}
        )
{%- if only_present %}
        WHERE ({{ key_list }}) IN (
            SELECT {% for key in keys %}{{ key }}{% if not loop.last %}, {% endif %}{% endfor %}
            FROM (
{{ source }}
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
            )
        )
{%- endif %}
    ),
    live AS (
        SELECT
            {{ live_columns | join(sep=", ") }},
{%- for key in keys %}
            {{ key }} AS `__dbt_key_{{ loop.index }}`,
{%- endfor %}
            toDateTime64({{ names.valid_from }}, 6, 'UTC') AS `__dbt_from`,
            if({{ is_open }}, NULL, toNullable(toDateTime64({{ names.valid_to }}, 6, 'UTC'))) AS `__dbt_until`,
            concat('1', toString(tuple({% for attribute in attributes %}{{ attribute.name }}{% if not loop.last %}, {% endif %}{% endfor %}))) AS `__dbt_state`,
            toString(tuple({% for column in carried_checked %}{{ column }}, {% endfor %}0)) AS `__dbt_carried`,
            1 AS `__dbt_present`
        FROM {{ relation }}
    ),
    collapsed AS (
        SELECT
            {{ key_list }},
            min(`__dbt_from`) AS `__dbt_begins`,
            max(ifNull(`__dbt_until`, {{ never }})) AS `__dbt_ends`,
            any(`__dbt_state`) AS `__dbt_constant`
        FROM (
            SELECT
                *,
                sum(`__dbt_starts`) OVER (
                    PARTITION BY {{ key_list }} ORDER BY `__dbt_from` ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
                ) AS `__dbt_group`
            FROM (
                SELECT
                    *,
                    `__dbt_state` != lagInFrame(`__dbt_state`) OVER before
                        OR ifNull(lagInFrame(`__dbt_until`) OVER before != `__dbt_from`, 1) AS `__dbt_starts`
                FROM live
                WHERE ({{ key_list }}) IN (SELECT {{ key_list }} FROM versions)
                WINDOW before AS (
                    PARTITION BY {{ key_list }} ORDER BY `__dbt_from` ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
                )
            )
        )
        GROUP BY {{ key_list }}, `__dbt_group`
    ),
    affected AS (
        SELECT DISTINCT {{ key_list }}
        FROM (
            SELECT {{ key_list }}, `__dbt_from`, ifNull(`__dbt_until`, {{ never }}) AS `__dbt_ends`, `__dbt_state`, 1 AS `__dbt_sign`
            FROM versions
            UNION ALL
            SELECT {{ key_list }}, `__dbt_begins`, `__dbt_ends`, `__dbt_constant`, -1
            FROM collapsed
        )
        GROUP BY {{ key_list }}, `__dbt_from`, `__dbt_ends`, `__dbt_state`
        HAVING sum(`__dbt_sign`) != 0
    ),
    boundaries AS (
        SELECT DISTINCT {{ key_list }}, `__dbt_at`
        FROM (
            SELECT {{ key_list }}, `__dbt_from` AS `__dbt_at`
            FROM versions
            UNION ALL
            SELECT {{ key_list }}, `__dbt_from`
            FROM (
                SELECT
                    {{ key_list }},
                    `__dbt_from`,
                    `__dbt_carried`,
                    lagInFrame(`__dbt_carried`) OVER (
                        PARTITION BY {{ key_list }} ORDER BY `__dbt_from` ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
                    ) AS `__dbt_before`
                FROM live
            )
            WHERE `__dbt_before` != '' AND `__dbt_carried` != `__dbt_before`
        )
        WHERE ({{ key_list }}) IN (SELECT {{ key_list }} FROM affected)
    ),
    dated AS (
        SELECT
            boundaries.`__dbt_at` AS `__dbt_from`,
{%- for key in keys %}
            boundaries.`__dbt_key_{{ loop.index }}` AS `__dbt_key_{{ loop.index }}`,
{%- endfor %}
{%- for attribute in attributes %}
            versions.{{ attribute.name }} AS {{ attribute.name }},
{%- endfor %}
            versions.`__dbt_state` AS `__dbt_state`,
            ifNull(versions.`__dbt_until`, {{ never }}) AS `__dbt_limit`
        FROM boundaries
        ASOF JOIN versions
        ON {% for key in keys %}boundaries.`__dbt_key_{{ loop.index }}` = versions.`__dbt_key_{{ loop.index }}` AND {% endfor %}boundaries.`__dbt_at` >= versions.`__dbt_from`
    ),
    carried AS (
        SELECT
{%- for key in keys %}
            dated.`__dbt_key_{{ loop.index }}` AS `__dbt_key_{{ loop.index }}`,
{%- endfor %}
{%- for attribute in attributes %}
            dated.{{ attribute.name }} AS {{ attribute.name }},
{%- endfor %}
            dated.`__dbt_from` AS `__dbt_from`,
            dated.`__dbt_state` AS `__dbt_state`,
            dated.`__dbt_limit` AS `__dbt_limit`,
{%- for column in carried %}
            live.{{ column }} AS {{ column }},
{%- endfor %}
            live.`__dbt_carried` AS `__dbt_carried`,
            live.`__dbt_present` AS `__dbt_known`
        FROM dated
        ASOF LEFT JOIN live
        ON {% for key in keys %}dated.`__dbt_key_{{ loop.index }}` = live.`__dbt_key_{{ loop.index }}` AND {% endfor %}dated.`__dbt_from` >= live.`__dbt_from`
        WHERE dated.`__dbt_from` < dated.`__dbt_limit`
    ),
    wanted AS (
        SELECT
{%- for key in keys %}
            carried.`__dbt_key_{{ loop.index }}` AS `__dbt_key_{{ loop.index }}`,
{%- endfor %}
{%- for attribute in attributes %}
            carried.{{ attribute.name }} AS {{ attribute.name }},
{%- endfor %}
            carried.`__dbt_from` AS `__dbt_from`,
            carried.`__dbt_state` AS `__dbt_state`,
{%- for column in carried %}
            multiIf(carried.`__dbt_known` = 1, carried.{{ column }}, earliest.`__dbt_present` = 1, earliest.{{ column }}, source_data.{{ column }}) AS {{ column }},
{%- endfor %}
            multiIf(carried.`__dbt_known` = 1, carried.`__dbt_carried`, earliest.`__dbt_present` = 1, earliest.`__dbt_carried`, '') AS `__dbt_carried`,
            least(
                ifNull(
                    leadInFrame(toNullable(carried.`__dbt_from`)) OVER (
                        PARTITION BY {% for key in keys %}carried.`__dbt_key_{{ loop.index }}`{% if not loop.last %}, {% endif %}{% endfor %}
                        ORDER BY carried.`__dbt_from` ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
                    ),
                    {{ never }}
                ),
                carried.`__dbt_limit`
            ) AS `__dbt_until`
        FROM carried
        LEFT JOIN (SELECT * FROM live ORDER BY `__dbt_from` LIMIT 1 BY {{ key_list }}) AS earliest
        ON {% for key in keys %}{% if not loop.first %} AND {% endif %}carried.`__dbt_key_{{ loop.index }}` = earliest.`__dbt_key_{{ loop.index }}`{% endfor %}
        LEFT JOIN (
            SELECT
                *{% for key in keys %},
                {{ key }} AS `__dbt_key_{{ loop.index }}`{% endfor %}
            FROM (
{{ source }}
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
            )
        ) AS source_data
        ON {% for key in keys %}{% if not loop.first %} AND {% endif %}carried.`__dbt_key_{{ loop.index }}` = source_data.`__dbt_key_{{ loop.index }}`{% endfor %}
    )
SELECT
{%- for column in columns %}
    {{ column.value }} AS {{ column.name }},
{%- endfor %}
    if(`__dbt_change` = 'update', {{ scd_id }}, snapshotted_data.{{ names.scd_id }}) AS {{ names.scd_id }},
    if(`__dbt_change` = 'update', source_data.`__dbt_from`, snapshotted_data.{{ names.updated_at }}) AS {{ names.updated_at }},
    if(`__dbt_change` = 'update', source_data.`__dbt_from`, snapshotted_data.{{ names.valid_from }}) AS {{ names.valid_from }},
    multiIf(
        `__dbt_change` = 'remove', snapshotted_data.{{ names.valid_to }},
        source_data.`__dbt_until` = {{ never }}, {{ open_until }},
        CAST(source_data.`__dbt_until` AS {{ valid_to_type }})
    ) AS {{ names.valid_to }},
{%- if is_deleted %}
    if(`__dbt_change` = 'update', 'False', snapshotted_data.{{ names.is_deleted }}) AS {{ names.is_deleted }},
{%- endif %}
    `__dbt_change`
FROM (SELECT *, 1 AS `__dbt_present` FROM wanted) AS source_data
FULL JOIN (
    SELECT *
    FROM live
    WHERE ({{ key_list }}) IN (SELECT {{ key_list }} FROM affected)
) AS snapshotted_data
ON {% for key in keys %}source_data.`__dbt_key_{{ loop.index }}` = snapshotted_data.`__dbt_key_{{ loop.index }}` AND {% endfor %}source_data.`__dbt_from` = snapshotted_data.`__dbt_from`
ARRAY JOIN multiIf(
    source_data.`__dbt_present` = 0, ['remove'],
    snapshotted_data.`__dbt_present` = 0, ['update'],
    source_data.`__dbt_state` != snapshotted_data.`__dbt_state` OR source_data.`__dbt_carried` != snapshotted_data.`__dbt_carried`, ['remove', 'update'],
    source_data.`__dbt_until` = ifNull(snapshotted_data.`__dbt_until`, {{ never }}), CAST([] AS Array(String)),
    isNull(snapshotted_data.`__dbt_until`), ['close'],
    ['remove', 'update']
) AS `__dbt_change`
SETTINGS join_use_nulls = 0
