select id, 10 as price from {{ ref('base') }}
