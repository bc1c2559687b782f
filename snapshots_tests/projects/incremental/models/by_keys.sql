{{ config(unique_key=['id', 'day'], incremental_strategy='delete_insert', order_by=['id', 'day']) }}
select * from {{ ref('events') }}
{% if is_incremental() %} where amount > 20 {% endif %}
