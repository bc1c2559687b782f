select * from {{ ref('stg_orders') }} where ordered_on > toDate('2030-01-01')
