    SELECT
{%- for key in keys %}
        new.`__dbt_key_{{ loop.index }}`,
{%- endfor %}
        new.`__dbt_from`
    FROM (
        SELECT {% for key in keys %}{{ key }} AS `__dbt_key_{{ loop.index }}`, {% endfor %}{{ names.valid_from }} AS `__dbt_from`
        FROM {{ staged }}
        WHERE `__dbt_change` = 'insert'
    ) AS new
    JOIN (
        SELECT {% for key in keys %}{{ key }} AS `__dbt_key_{{ loop.index }}`, {% endfor %}max({{ names.valid_to }}) AS `__dbt_until`
        FROM {{ relation }}
        WHERE NOT {{ is_open }}
            AND ({{ keys | join(sep=", ") }}) IN (SELECT {{ keys | join(sep=", ") }} FROM {{ staged }} WHERE `__dbt_change` = 'insert')
        GROUP BY {% for key in keys %}`__dbt_key_{{ loop.index }}`{% if not loop.last %}, {% endif %}{% endfor %}
    ) AS old
    ON {% for key in keys %}{% if not loop.first %} AND {% endif %}new.`__dbt_key_{{ loop.index }}` <=> old.`__dbt_key_{{ loop.index }}`{% endfor %}
    WHERE old.`__dbt_until` > new.`__dbt_from`
