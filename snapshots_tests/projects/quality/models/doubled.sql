select id, level, amount * 2 as amount from {{ ref('numbers') }}
