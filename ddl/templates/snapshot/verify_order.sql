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
{% set each_once = false %}{% include "snapshot/_followed.sql" %}    )
    WHERE {{ broken }}
)
ORDER BY ALL
LIMIT 5
