select * from {{ ref('fct') }}
