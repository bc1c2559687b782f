INSERT INTO {{ aside }}
    ({{ columns | join(sep=", ") }})
SELECT {{ columns | join(sep=", ") }}
FROM {{ relation }}
WHERE {{ match }} NOT IN (SELECT {{ match }} FROM {{ staged }})
{%- if only_open %}
    AND {{ is_open }}
{%- endif %}
