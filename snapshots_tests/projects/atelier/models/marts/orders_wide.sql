{{ config(
    pre_hook=["select 'pre {{ this.schema }}.{{ this.identifier }}'", {'sql': "select 2"}],
    alias='orders_wide_' ~ target.name,
    settings={'index_granularity': 4096},
    query_settings={'max_threads': 2},
) }}
{%- set methods = dbt_utils_like_values(ref('stg_orders'), 'method') %}
{%- set ns = namespace(n=0, names=[]) -%}
{%- for m in methods -%}
  {%- set ns.n = ns.n + loop.index -%}
  {%- do ns.names.append(m | upper) -%}
{%- endfor %}
select
    o.id as id,
    c.name as customer,
    {% for m in methods -%}
    sumIf(o.cents, o.method = '{{ m }}') as {{ m }}_cents{{ ',' if not loop.last }}
    {% endfor -%},
    {{ ns.n }} as n, '{{ ns.names | join("/") }}' as names
from {{ ref('stg_orders') }} as o
left join {{ ref('atelier', 'stg_customers') }} as c on c.id = o.customer_id
group by o.id, c.name
{% call wrap('order by') %}o.id{% endcall %}
