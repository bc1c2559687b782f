DELETE FROM {{ relation }}
WHERE {{ match }} IN (SELECT {{ match }} FROM {{ staged }} WHERE {{ change_removes }})
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
