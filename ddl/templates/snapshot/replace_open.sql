ALTER TABLE {{ relation }}{{ on_cluster }}
    REPLACE PARTITION ID {{ open_partition }} FROM {{ aside }}
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
