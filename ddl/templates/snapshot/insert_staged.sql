INSERT INTO {{ relation }}
    ({{ columns | join(sep=", ") }})
SELECT {{ columns | join(sep=", ") }}
FROM {{ staged }}
WHERE {{ which }}
{%- if repeated %}
    AND ({{ names.scd_id }}, {{ is_open }}) NOT IN (
        SELECT {{ names.scd_id }}, {{ is_open }}
        FROM {{ relation }}
        WHERE {{ names.scd_id }} IN (SELECT {{ names.scd_id }} FROM {{ staged }})
    )
{%- endif %}
