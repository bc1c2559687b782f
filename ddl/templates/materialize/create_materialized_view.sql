CREATE MATERIALIZED VIEW {% if if_not_exists %}IF NOT EXISTS {% endif %}{{ relation }}{{ on_cluster }}
{%- if refresh %}
{{ refresh }}
{%- endif %}
TO {{ target }}
{%- if security %}
{{ security }}
{%- endif %}
AS
{{ query }}
