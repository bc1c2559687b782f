    SELECT
        *,
        leadInFrame(toNullable(`__dbt_from`)) OVER (
            PARTITION BY {% for key in keys %}`__dbt_key_{{ loop.index }}`{% if not loop.last %}, {% endif %}{% endfor %}
            ORDER BY `__dbt_from`, `__dbt_last` ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
        ) AS `__dbt_next`
    FROM (
        SELECT
            *,
{%- for key in keys %}
            {{ key }} AS `__dbt_key_{{ loop.index }}`,
{%- endfor %}
            toDateTime64({{ names.valid_from }}, 6, 'UTC') AS `__dbt_from`,
            if({{ is_open }}, NULL, toNullable(toDateTime64({{ names.valid_to }}, 6, 'UTC'))) AS `__dbt_until`,
            {{ is_open }} AS `__dbt_last`
        FROM {{ relation }}
{%- if each_once %}
        ORDER BY `__dbt_last`, `__dbt_until`
        LIMIT 1 BY {{ names.scd_id }}
{%- endif %}
    )
