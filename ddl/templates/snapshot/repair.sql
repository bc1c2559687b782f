INSERT INTO {{ aside }}
    ({{ columns | join(sep=", ") }}, {{ names.valid_to }})
SELECT
    {{ columns | join(sep=", ") }},
    multiIf(
        isNotNull(`__dbt_next`) AND (`__dbt_last` OR `__dbt_until` > `__dbt_next`), CAST(`__dbt_next` AS {{ valid_to_type }}),
        `__dbt_last`, {{ open_until }},
        {{ names.valid_to }}
    )
FROM (
{% set each_once = true %}{% include "snapshot/_followed.sql" %}    WHERE `__dbt_last` OR `__dbt_until` > `__dbt_from`
)
WHERE isNull(`__dbt_next`) OR `__dbt_next` > `__dbt_from`
