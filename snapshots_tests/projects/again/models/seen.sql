select id, at from {{ ref('dated') }} union all select id + 10, at from {{ source('landed', 'dated') }}
