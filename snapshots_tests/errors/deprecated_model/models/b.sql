select * from {{ ref('a') }} cross join {{ ref('later', v=1) }}
