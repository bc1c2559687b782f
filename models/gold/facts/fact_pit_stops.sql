{{
    config(
        partition_by='season',
        order_by='(season, round, driver_id, stop_number)'
    )
}}

-- The API gives a stop no team; it is the team the driver has in the race's result.
with teams as (
    select
        season,
        round,
        driver_id,
        toNullable(argMin(constructor_id, position)) as constructor_id
    from {{ ref('stg_results') }}
    group by season, round, driver_id
)

select
    {{ surrogate_key(['stops.season', 'stops.round', 'stops.driver_id', 'stops.stop']) }} as pitstop_id,
    stops.season as season,
    stops.round as round,
    toLowCardinality(stops.driver_id) as driver_id,
    toLowCardinality(teams.constructor_id) as constructor_id,
    stops.lap as lap,
    stops.stop as stop_number,
    stops.time_of_day_local as time_of_day_local,
    stops.duration_millis as duration_ms
from {{ ref('stg_pitstops') }} as stops
left join teams on teams.season = stops.season and teams.round = stops.round and teams.driver_id = stops.driver_id
