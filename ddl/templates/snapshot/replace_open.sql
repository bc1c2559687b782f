ALTER TABLE {{ relation }}{{ on_cluster }}
    REPLACE PARTITION ID {{ open_partition }} FROM {{ aside }}
{%- if forget_replaced %},
    DROP PARTITION ID 'none'
{%- endif %}
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
