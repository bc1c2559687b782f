{{ config(
    incremental_strategy='append',
    
    order_by='id', engine='MergeTree()'
) }}
select id, day, amount, version from {{ ref('events') }}
{% if is_incremental() %}
where day >= (select max(day) from {{ this }})
{% endif %}
