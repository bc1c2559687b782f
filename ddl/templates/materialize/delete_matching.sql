DELETE FROM {{ relation }}{{ on_cluster }}
WHERE ({{ key }}) IN (SELECT {{ key }} FROM {{ new_rows }}{{ subquery_settings }})
{%- for predicate in predicates %}
    AND ({{ predicate }})
{%- endfor %}
{%- if settings %}
SETTINGS {{ settings | join(sep=", ") }}
{%- endif %}
