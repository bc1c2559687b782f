INSERT INTO {{ relation }}
    ({{ columns | join(sep=", ") }})
SELECT {{ columns | join(sep=", ") }}
FROM {{ existing }}
WHERE ({{ key }}) NOT IN (SELECT {{ key }} FROM {{ new_rows }})
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
