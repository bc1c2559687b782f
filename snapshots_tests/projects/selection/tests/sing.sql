select * from {{ ref('fct') }} where 1=0 {{ config(tags=['sg']) }}
