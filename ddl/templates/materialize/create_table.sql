CREATE TABLE {{ relation }}{{ on_cluster }}
{%- if table.columns or table.elements %}
(
{%- for column in table.columns %}
    {{ column.name }} {{ column.type }}
    {%- if column.default %} {{ column.default }}{% endif %}
    {%- if column.comment %} COMMENT {{ column.comment }}{% endif %}
    {%- if column.codec %} CODEC({{ column.codec }}){% endif %}
    {%- if column.ttl %} TTL {{ column.ttl }}{% endif %}
    {%- if not loop.last or table.elements %},{% endif %}
{%- endfor %}
{%- for element in table.elements %}
    {{ element }}
    {%- if not loop.last %},{% endif %}
{%- endfor %}
)
{%- endif %}
ENGINE = {{ table.engine }}
{%- if table.partition_by %}
PARTITION BY {{ table.partition_by }}
{%- endif %}
{%- if table.primary_key %}
PRIMARY KEY {{ table.primary_key }}
{%- endif %}
{%- if table.order_by %}
ORDER BY {{ table.order_by }}
{%- endif %}
{%- if table.ttl %}
TTL {{ table.ttl }}
{%- endif %}
{%- if table.settings %}
SETTINGS {{ table.settings | join(sep=", ") }}
{%- endif %}
{%- if table.comment %}
COMMENT {{ table.comment }}
{%- endif %}
{%- if query %}
AS
{{ query }}
{%- endif %}
