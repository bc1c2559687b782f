select
    id as order_id,
    customer_id,
    toDate(ordered_at) as ordered_on,
    status
from {{ source('raw', 'orders') }}
where ordered_at >= '{{ var("first_day") }}'
