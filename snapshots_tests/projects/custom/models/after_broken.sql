select * from {{ ref('broken_stamp') }}
