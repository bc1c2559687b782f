select id from {{ source('of_database', 'raw_orders') }}
