{{
    config(
        partition_by='season',
        order_by='(season, round, driver_id)',
        indexes=[
            {'name': 'driver_id_bloom', 'definition': 'driver_id type bloom_filter(0.01) granularity 1'}
        ]
    )
}}

-- One row per car a driver raced in the sprint, the short Saturday race that some weekends have since 2021.
with races as (
    select
        season,
        round,
        toNullable(circuit_id) as circuit_id,
        toNullable(race_date) as race_date
    from {{ ref('stg_races') }}
),

statuses as (
    select
        status,
        toNullable(status_id) as status_id
    from {{ ref('stg_status') }}
)

select
    {{ surrogate_key(["'sprint'", 'results.season', 'results.round', 'results.driver_id', 'results.constructor_id', 'ifNull(results.car_number, -1)']) }} as result_id,
    results.season as season,
    results.round as round,
    toLowCardinality(results.driver_id) as driver_id,
    toLowCardinality(results.constructor_id) as constructor_id,
    toLowCardinality(races.circuit_id) as circuit_id,
    races.race_date as race_date,
    results.car_number as car_number,
    results.grid as grid_position,
    results.position as final_position,
    toLowCardinality(results.position_text) as position_text,
    cast(match(results.position_text, '^[0-9]+$') as UInt8) as is_classified,
    results.points as points,
    results.laps as laps_completed,
    statuses.status_id as status_id,
    toLowCardinality(results.status) as status,
    results.time_millis as sprint_time_ms,
    {{ lap_time_text('results.fastest_lap_millis') }} as fastest_lap_time,
    results.fastest_lap_millis as fastest_lap_ms,
    results.fastest_lap_number as fastest_lap_number,
    results.fastest_lap_rank as fastest_lap_rank
from {{ ref('stg_sprint') }} as results
left join races on races.season = results.season and races.round = results.round
left join statuses on statuses.status = results.status
