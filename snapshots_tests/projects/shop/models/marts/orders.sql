{% set payment_methods = var('payment_methods') %}

with payments as (
    select
        order_id,
        {% for method in payment_methods -%}
        sum(case when method = '{{ method }}' then amount else 0 end) as {{ method }}_amount,
        {% endfor -%}
        sum(amount) as total_amount
    from {{ ref('stg_payments') }}
    group by order_id
)

select
    o.order_id as order_id,
    o.customer_id as customer_id,
    o.ordered_on as ordered_on,
    {% for method in payment_methods -%}
    p.{{ method }}_amount as {{ method }}_amount,
    {% endfor -%}
    p.total_amount as total_amount
from {{ ref('stg_orders') }} o
left join payments p on p.order_id = o.order_id
