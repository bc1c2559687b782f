WITH
    observations AS (
{{ observations }}
    ),
{%- if period %}
    periods AS (
        SELECT
            `__dbt_period`,
            min(`__dbt_at`) AS `__dbt_starts`,
            row_number() OVER (ORDER BY min(`__dbt_at`)) AS `__dbt_index`
        FROM observations
        GROUP BY `__dbt_period`
    ),
    absences AS (
        SELECT
            {{ key_list }},
            periods.`__dbt_starts` AS `__dbt_at`
        FROM (
            SELECT
                {{ key_list }},
                `__dbt_index`,
                leadInFrame(`__dbt_index`) OVER (
                    PARTITION BY {{ key_list }} ORDER BY `__dbt_index` ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
                ) AS `__dbt_next`
            FROM (
                SELECT DISTINCT
                    {{ key_list }},
                    periods.`__dbt_index` AS `__dbt_index`
                FROM observations
                JOIN periods ON observations.`__dbt_period` = periods.`__dbt_period`
            )
        ) AS seen
        JOIN periods ON periods.`__dbt_index` = seen.`__dbt_index` + 1
        WHERE seen.`__dbt_next` != seen.`__dbt_index` + 1
    ),
{%- endif %}
    events AS (
        SELECT
            {{ key_list }},
            `__dbt_at`,
            argMax(`__dbt_seen`, toString(`__dbt_seen`)) AS `__dbt_values`,
            concat('1', toString(argMax(`__dbt_seen`, toString(`__dbt_seen`)))) AS `__dbt_state`
        FROM observations
        GROUP BY {{ key_list }}, `__dbt_at`
{%- if period %}
        UNION ALL
        SELECT
            {{ key_list }},
            `__dbt_at`,
            (SELECT any(`__dbt_seen`) FROM observations) AS `__dbt_values`,
            '0' AS `__dbt_state`
        FROM absences
{%- endif %}
    )
SELECT
    {{ key_list }},
{%- for attribute in attributes %}
    tupleElement(`__dbt_values`, {{ loop.index }}) AS {{ attribute.name }},
{%- endfor %}
    `__dbt_state`,
    `__dbt_at` AS `__dbt_from`,
    `__dbt_until`
FROM (
    SELECT
        *,
        leadInFrame(toNullable(`__dbt_at`)) OVER (
            PARTITION BY {{ key_list }} ORDER BY `__dbt_at` ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
        ) AS `__dbt_until`
    FROM (
        SELECT
            *,
            lagInFrame(`__dbt_state`) OVER (
                PARTITION BY {{ key_list }} ORDER BY `__dbt_at` ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) AS `__dbt_before`
        FROM events
    )
    WHERE `__dbt_state` != `__dbt_before`
)
WHERE `__dbt_state` != '0'
