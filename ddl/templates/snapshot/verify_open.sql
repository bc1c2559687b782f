SELECT
{%- for key in keys %}
    toString(`__dbt_key_{{ loop.index }}`),
{%- endfor %}
    count() OVER ()
FROM (
    SELECT
{%- for key in keys %}
        {{ key }} AS `__dbt_key_{{ loop.index }}`,
{%- endfor %}
        countIf({{ is_open }}) AS `__dbt_open_rows`
    FROM {{ relation }}
    GROUP BY {% for key in keys %}`__dbt_key_{{ loop.index }}`{% if not loop.last %}, {% endif %}{% endfor %}
)
WHERE {{ broken }}
ORDER BY ALL
LIMIT 5
