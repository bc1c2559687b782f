{{ config(full_refresh=false, order_by='id', incremental_strategy='append') }}
select id, {{ var('day') }} as run from {{ ref('events') }} where id < 2
