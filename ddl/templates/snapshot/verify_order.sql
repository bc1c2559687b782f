SELECT
{%- for key in keys %}
    toString(`__dbt_key_{{ loop.index }}`),
{%- endfor %}
    count() OVER ()
FROM (
    SELECT DISTINCT
{%- for key in keys %}
        `__dbt_key_{{ loop.index }}`
        {%- if not loop.last %},{% endif %}
{%- endfor %}
    FROM (
        SELECT
            *,
            leadInFrame(toNullable(`__dbt_from`)) OVER (
                PARTITION BY {% for key in keys %}`__dbt_key_{{ loop.index }}`{% if not loop.last %}, {% endif %}{% endfor %}
                ORDER BY `__dbt_from`, `__dbt_last` ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
            ) AS `__dbt_next`
        FROM (
            SELECT
{%- for key in keys %}
                {{ key }} AS `__dbt_key_{{ loop.index }}`,
{%- endfor %}
                toDateTime64({{ names.valid_from }}, 6, 'UTC') AS `__dbt_from`,
                if({{ is_open }}, NULL, toNullable(toDateTime64({{ names.valid_to }}, 6, 'UTC'))) AS `__dbt_until`,
                {{ is_open }} AS `__dbt_last`
            FROM {{ relation }}
        )
    )
    WHERE {{ broken }}
)
ORDER BY ALL
LIMIT 5
