{{ config(order_by='(circuit_id, circuit_rank, driver_id)') }}

-- A driver's fastest race lap on a circuit. Lap by lap times start in 1996; the results know the fastest lap of each driver as well,
-- which covers races whose laps are not loaded.
with fastest_per_race as (
    select
        season,
        round,
        driver_id,
        min(lap_time_ms) as lap_time_ms
    from {{ ref('fact_lap_times') }}
    group by season, round, driver_id
    union all
    select
        season,
        round,
        driver_id,
        assumeNotNull(fastest_lap_ms) as lap_time_ms
    from {{ ref('fact_race_results') }}
    where fastest_lap_ms is not null
),

fastest as (
    select
        races.circuit_id as circuit_id,
        laps.driver_id as driver_id,
        min(laps.lap_time_ms) as fastest_ms,
        argMin((laps.season, laps.round), (laps.lap_time_ms, laps.season, laps.round)) as race
    from fastest_per_race as laps
    inner join {{ ref('dim_races') }} as races on races.season = laps.season and races.round = laps.round
    group by circuit_id, driver_id
)

select
    circuit_id,
    driver_id,
    {{ lap_time_text('fastest_ms') }} as fastest_time,
    fastest_ms,
    race.1 as season,
    race.2 as round,
    toUInt16(row_number() over (partition by circuit_id order by fastest_ms, season, round, driver_id)) as circuit_rank
from fastest
