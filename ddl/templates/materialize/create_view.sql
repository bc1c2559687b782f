CREATE OR REPLACE VIEW {{ relation }}{{ on_cluster }}
{%- if columns %}
(
{%- for column in columns %}
    {{ column.name }}{% if column.comment %} COMMENT {{ column.comment }}{% endif %}
    {%- if not loop.last %},{% endif %}
{%- endfor %}
)
{%- endif %}
{%- if security %}
{{ security }}
{%- endif %}
AS (
{{ query }}
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
)
{%- if comment %}
COMMENT {{ comment }}
{%- endif %}
