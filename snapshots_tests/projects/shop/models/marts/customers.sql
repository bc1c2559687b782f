{{ config(order_by='customer_id', settings={'index_granularity': 1024}) }}

with customers as (select * from {{ ref('stg_customers') }}),
orders as (select * from {{ ref('orders') }}),
per_customer as (
    select customer_id, min(ordered_on) as first_order, max(ordered_on) as last_order, count() as orders, sum(total_amount) as spent
    from orders group by customer_id
)
select
    customers.customer_id as customer_id,
    customers.name as name,
    per_customer.first_order as first_order,
    per_customer.last_order as last_order,
    per_customer.orders as orders,
    per_customer.spent as spent
from customers
left join per_customer using (customer_id)
