{% snapshot snap %}
{{ config(unique_key='id', strategy='check', check_cols=['a'], tags=['sn']) }}
select * from {{ ref('stg_a') }}
{% endsnapshot %}

{% snapshot snap2 %}{{ config(unique_key='id', strategy='timestamp', updated_at='ts', target_schema='x') }} select 1 as id {% endsnapshot %}
