CREATE TABLE {{ relation }}{{ on_cluster }}
AS {{ like }}
{%- if engine %}
ENGINE = {{ engine }}
{%- endif %}
