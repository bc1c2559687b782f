select id, 10.5 as price, currency from {{ ref('base') }}
