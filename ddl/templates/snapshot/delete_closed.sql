DELETE FROM {{ relation }} IN PARTITION ID {{ open_partition }}
WHERE {{ is_open }} AND {{ match }} IN (SELECT {{ match }} FROM {{ staged }} WHERE {{ change_closes }})
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
