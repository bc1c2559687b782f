CREATE DATABASE IF NOT EXISTS {{ database }}{{ on_cluster }}
{%- if engine %} ENGINE = {{ engine }}{% endif %}
