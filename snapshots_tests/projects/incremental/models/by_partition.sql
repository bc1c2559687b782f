{{ config(incremental_strategy='insert_overwrite', partition_by='day', order_by='id') }}
select * from {{ ref('events') }}
{% if is_incremental() %} where day = (select max(day) from {{ ref('events') }}) {% endif %}
