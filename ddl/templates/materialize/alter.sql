ALTER TABLE {{ relation }}{{ on_cluster }}
{%- for command in commands %}
    {{ command }}
    {%- if not loop.last %},{% endif %}
{%- endfor %}
