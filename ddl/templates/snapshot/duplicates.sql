SELECT
{%- for key in keys %}
    {{ key }} AS `__dbt_key_{{ loop.index }}`,
{%- endfor %}
    count() AS `__dbt_rows`
FROM (
{{ source }}
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
)
GROUP BY
{%- for key in keys %}
    `__dbt_key_{{ loop.index }}`
    {%- if not loop.last %},{% endif %}
{%- endfor %}
HAVING count() > 1
ORDER BY `__dbt_rows` DESC
LIMIT 10
