{% snapshot snap_constructors %}
{{
    config(
        target_schema='snapshots',
        unique_key='constructor_id',
        strategy='check',
        check_cols=['name', 'nationality']
    )
}}

select * from {{ ref('stg_constructors') }}
{% endsnapshot %}
