DELETE FROM {{ relation }}{{ on_cluster }}
WHERE {{ range | join(sep=" AND ") }}
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
