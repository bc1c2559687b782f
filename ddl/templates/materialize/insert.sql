INSERT INTO {{ relation }}{% if columns %}
    ({{ columns | join(sep=", ") }}){% endif %}
{{ query }}
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
