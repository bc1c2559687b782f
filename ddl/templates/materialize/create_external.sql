CREATE {% if or_replace %}OR REPLACE {% endif %}TABLE {{ relation }}{{ on_cluster }}
(
{%- for column in table.columns %}
    {{ column.name }} {{ column.type }}
    {%- if column.comment %} COMMENT {{ column.comment }}{% endif %}
    {%- if not loop.last %},{% endif %}
{%- endfor %}
)
ENGINE = {{ table.engine }}
{%- if table.settings %}
SETTINGS {{ table.settings | join(sep=", ") }}
{%- endif %}
{%- if table.comment %}
COMMENT {{ table.comment }}
{%- endif %}
