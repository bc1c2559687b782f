{% snapshot snap_circuits %}
{{
    config(
        target_schema='snapshots',
        unique_key='circuit_id',
        strategy='check',
        check_cols=['name', 'location', 'country', 'lat', 'lng']
    )
}}

select * from {{ ref('stg_circuits') }}
{% endsnapshot %}
