select id, {{ 'no_such_column' if var('broken', false) else 'id * 2' }} as twice from {{ ref('middle') }}
