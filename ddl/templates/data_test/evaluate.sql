SELECT
    {{ fail_calc }} AS failures,
    {{ fail_calc }} {{ warn_if }} AS should_warn,
    {{ fail_calc }} {{ error_if }} AS should_error
FROM (
{% if limit %}
SELECT *
FROM (
{{ query }}
)
LIMIT {{ limit }}
{%- else -%}
{{ query }}
{%- endif %}
) AS dbt_internal_test
