{{ config(unique_key='id', order_by=['id']) }}
select id, day, amount, version from {{ ref('events') }}
{% if is_incremental() %}
  where day >= (select max(day) from {{ this }})
{% endif %}
