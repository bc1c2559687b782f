{% snapshot orders_snap %}
{{ config(target_schema=target.schema ~ '_snap', unique_key='id', strategy='check', check_cols=['status', 'cents'], invalidate_hard_deletes=True) }}
select * from {{ ref('stg_orders') }}
{% endsnapshot %}
{% snapshot customers_snap %}
{{ config(unique_key='id', strategy='timestamp', updated_at='born', schema='snap', tags=['snap'], meta={'a': 1}) }}
select id, name, toDateTime('2024-01-01 00:00:00') as born from {{ ref('stg_customers') }}
{% endsnapshot %}
