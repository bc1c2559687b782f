select id, at from {{ ref('rows') }}
