SELECT
{%- for key in keys %}
    toString(new.`__dbt_key_{{ loop.index }}`),
{%- endfor %}
{%- for column in columns %}
    toString(old.{{ column }}),
    toString(new.{{ column }})
    {%- if not loop.last %},{% endif %}
{%- endfor %}
FROM (
    SELECT *{% for key in keys %}, {{ key }} AS `__dbt_key_{{ loop.index }}`{% endfor %}
    FROM {{ staged }}
    WHERE `__dbt_change` = 'update'
) AS new
JOIN (
    SELECT *{% for key in keys %}, {{ key }} AS `__dbt_key_{{ loop.index }}`{% endfor %}
    FROM {{ staged }}
    WHERE `__dbt_change` = 'close'
) AS old
ON
{%- for key in keys %}
    {% if not loop.first %}AND {% endif %}new.`__dbt_key_{{ loop.index }}` <=> old.`__dbt_key_{{ loop.index }}`
{%- endfor %}
ORDER BY
{%- for key in keys %}
    new.`__dbt_key_{{ loop.index }}`
    {%- if not loop.last %},{% endif %}
{%- endfor %}
LIMIT {{ limit }}
