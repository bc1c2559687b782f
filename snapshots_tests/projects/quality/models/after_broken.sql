{{ config(enabled=(var('bad') == 2)) }}
select * from {{ ref('broken') }}
