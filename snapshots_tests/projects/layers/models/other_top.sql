{{ config(materialized='table', order_by='id') }}
select p.id as id, p.price as price, b.label as label from {{ ref('priced') }} p left join {{ ref('base_items') }} b using (id)
