CREATE OR REPLACE DICTIONARY {{ relation }}{{ on_cluster }}
(
{%- for field in fields %}
    {{ field.name }} {{ field.type }}
    {%- if not loop.last %},{% endif %}
{%- endfor %}
)
PRIMARY KEY {{ primary_key }}
SOURCE({{ source }})
LAYOUT({{ layout }})
{%- if lifetime %}
LIFETIME({{ lifetime }})
{%- endif %}
{%- if range %}
RANGE({{ range }})
{%- endif %}
{%- if comment %}
COMMENT {{ comment }}
{%- endif %}
