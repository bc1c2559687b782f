{{ config(inserts_only=true, order_by='id') }}
select id, {{ var('day') }} as run from {{ ref('events') }}
{% if is_incremental() %} where id not in (select id from {{ this }}) {% endif %}
