ALTER TABLE {{ relation }}{{ on_cluster }}
{%- for partition in partitions %}
    REPLACE PARTITION ID {{ partition }} FROM {{ new_rows }}
    {%- if not loop.last %},{% endif %}
{%- endfor %}
{%- if forget_replaced %},
    DROP PARTITION ID 'none'
{%- endif %}
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
