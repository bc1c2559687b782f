{{ config(order_by='(season, constructor_id)') }}

-- Races and wins count rounds. Podiums count places, so that two cars on one podium are two and a shared car is one.
with entries as (
    select
        season,
        constructor_id,
        round,
        driver_id,
        'race' as session,
        points,
        grid_position,
        final_position,
        is_classified
    from {{ ref('fact_race_results') }}
    union all
    select
        season,
        constructor_id,
        round,
        driver_id,
        'sprint' as session,
        points,
        grid_position,
        final_position,
        is_classified
    from {{ ref('fact_sprint_results') }}
),

stats as (
    select
        season,
        constructor_id,
        round(sum(points), 2) as total_points,
        round(sumIf(points, session = 'race'), 2) as race_points,
        round(sumIf(points, session = 'sprint'), 2) as sprint_points,
        uniqExactIf(round, session = 'race') as races,
        uniqExact(driver_id) as drivers,
        uniqExactIf(round, session = 'race' and is_classified and final_position = 1) as wins,
        uniqExactIf((round, final_position), session = 'race' and is_classified and final_position <= 3) as podiums,
        uniqExactIf(round, session = 'race' and ifNull(grid_position, 0) = 1) as poles
    from entries
    group by season, constructor_id
),

last_standings as (
    select
        season,
        round,
        constructor_id,
        toNullable(points) as points,
        position
    from {{ ref('stg_constructorstandings') }}
    where (season, round) in (select season, max(round) from {{ ref('stg_constructorstandings') }} group by season)
),

last_races as (
    select
        season,
        max(round) as round
    from {{ ref('stg_races') }}
    group by season
)

select
    stats.season as season,
    stats.constructor_id as constructor_id,
    stats.total_points as total_points,
    stats.race_points as race_points,
    stats.sprint_points as sprint_points,
    stats.races as races,
    stats.drivers as drivers,
    stats.wins as wins,
    stats.podiums as podiums,
    stats.poles as poles,
    last_standings.points as official_points,
    last_standings.position as official_position,
    nullIf(last_standings.round, 0) as official_round,
    ifNull(last_standings.position, 0) = 1 and last_standings.round = last_races.round as is_champion
from stats
left join last_standings on last_standings.season = stats.season and last_standings.constructor_id = stats.constructor_id
left join last_races on last_races.season = stats.season
