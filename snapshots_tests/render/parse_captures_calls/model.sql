{{ config(materialized='incremental', order_by=['id'], tags=['a'], pre_hook="select 1") }}
{{ config(meta={'owner': env_var('OWNER', 'nobody')}) }}
select * from {{ ref('orders') }} join {{ ref('other', 'customers', v=2) }} using (id)
join {{ source('raw', 'events') }} on {{ var('day', 'today') }} = {{ var('missing') }}
{% if execute %} never {% endif %}
{% if is_incremental() %} never {% endif %}
{{ shout('x') }}
{{ undefined_at_parse.anything(1)['x'] }}
