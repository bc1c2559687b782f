{% snapshot snap_drivers %}
{{
    config(
        target_schema='snapshots',
        unique_key='driver_id',
        strategy='check',
        check_cols=['name', 'nationality', 'constructor_id']
    )
}}

select * from {{ ref('stg_drivers') }}
{% endsnapshot %}
