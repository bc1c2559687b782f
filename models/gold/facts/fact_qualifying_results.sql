{{
    config(
        partition_by='season',
        order_by='(season, round, driver_id)',
        indexes=[{'name': 'driver_id_bloom', 'definition': 'driver_id type bloom_filter(0.01) granularity 1'}]
    )
}}

-- The key leaves the car number out, because upstream corrects it afterwards.
select
    {{ surrogate_key(['season', 'round', 'driver_id']) }} as qualifying_id,
    season,
    round,
    toLowCardinality(driver_id) as driver_id,
    toLowCardinality(constructor_id) as constructor_id,
    car_number,
    {{ lap_time_text('q1_millis') }} as q1_time,
    {{ lap_time_text('q2_millis') }} as q2_time,
    {{ lap_time_text('q3_millis') }} as q3_time,
    q1_millis as q1_ms,
    q2_millis as q2_ms,
    q3_millis as q3_ms,
    position as final_position
from {{ ref('stg_qualifying') }}
