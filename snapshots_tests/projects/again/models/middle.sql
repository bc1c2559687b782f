{{ config(materialized='view') }}
select id, at from {{ ref('base') }} where id >= {{ var('least', 0) }}
