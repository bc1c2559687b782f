{#- a comment with {{ ref('nothing') }} -#}
{%- set cents = 100 -%}
{% set columns %}
    id, customer_id, status, method,
    {% raw %}'{{ not jinja }}' as template,{% endraw %}
{% endset %}
with source as (
    select * from {{ ref('raw_orders') }}
    -- {{ "{{ nested }}" }}
)
select {{ columns }}
    toInt64(amount * {{ cents }}) as cents,
    splitByChar('|', coalesce(tags, '')) as tags,
    {{ dbt.date_trunc('day', 'ordered_at') }} as day,
    ordered_at
from source
{% if var('start_date', none) is not none and modules.re.match('^[0-9]{4}', var('start_date')) -%}
where ordered_at >= toDateTime('{{ var("start_date") }} 00:00:00')
{%- endif %}
