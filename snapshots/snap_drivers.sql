{% snapshot snap_drivers %}
{{
    config(
        target_schema='snapshots',
        unique_key='driver_id',
        strategy='check',
        check_cols=['name', 'nationality', 'constructor_id'],
        history={
            'relation': 'int_driver_entries',
            'observed_at': 'race_date',
            'close_when_absent_for': 'season'
        }
    )
}}

-- depends_on: {{ ref('int_driver_entries') }}
-- One row per driver. chpipe takes the teams of the past from the races (history); dbt-clickhouse leaves that out and starts today.
select * from {{ ref('stg_drivers') }}
{% endsnapshot %}
