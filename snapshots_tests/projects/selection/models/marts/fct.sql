{{ config(
    materialized='incremental', unique_key=['id','x'], incremental_strategy='append', post_hook=["select 1", {"sql": "select 2", "transaction": false}],
    order_by='id', partition_by=none, settings={'a': 1}
) }}
{% if is_incremental() %} select 1 from {{ this }} {% endif %}
select * from {{ ref('eph') }} join {{ ref('pkg', 'pm') }} on true join {{ ref('dim', v=1) }} join {{ ref('dim') }} join {{ ref('stg_a') }}
