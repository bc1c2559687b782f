{{ config(order_by='(season, driver_id)') }}

-- Races, wins, podiums and poles count rounds, not rows: with shared cars a driver can have several rows in one race.
with entries as (
    select
        season,
        driver_id,
        round,
        'race' as session,
        points,
        grid_position,
        final_position,
        is_classified,
        position_text != 'W' and position_text != 'F' as started,
        fastest_lap_rank
    from {{ ref('fact_race_results') }}
    union all
    select
        season,
        driver_id,
        round,
        'sprint' as session,
        points,
        grid_position,
        final_position,
        is_classified,
        position_text != 'W' and position_text != 'F' as started,
        null as fastest_lap_rank
    from {{ ref('fact_sprint_results') }}
),

stats as (
    select
        season,
        driver_id,
        round(sum(points), 2) as total_points,
        round(sumIf(points, session = 'race'), 2) as race_points,
        round(sumIf(points, session = 'sprint'), 2) as sprint_points,
        uniqExactIf(round, session = 'race') as races,
        uniqExactIf(round, session = 'race' and started) as starts,
        uniqExactIf(round, session = 'race' and is_classified and final_position = 1) as wins,
        uniqExactIf(round, session = 'race' and is_classified and final_position <= 3) as podiums,
        uniqExactIf(round, session = 'race' and ifNull(grid_position, 0) = 1) as poles,
        uniqExactIf(round, session = 'race' and ifNull(fastest_lap_rank, 0) = 1) as fastest_laps,
        uniqExactIf(round, session = 'sprint' and is_classified and final_position = 1) as sprint_wins
    from entries
    group by season, driver_id
),

last_standings as (
    select
        season,
        round,
        driver_id,
        toNullable(points) as points,
        position
    from {{ ref('stg_driverstandings') }}
    where (season, round) in (select season, max(round) from {{ ref('stg_driverstandings') }} group by season)
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
    stats.driver_id as driver_id,
    stats.total_points as total_points,
    stats.race_points as race_points,
    stats.sprint_points as sprint_points,
    stats.races as races,
    stats.starts as starts,
    stats.wins as wins,
    stats.podiums as podiums,
    stats.poles as poles,
    stats.fastest_laps as fastest_laps,
    stats.sprint_wins as sprint_wins,
    last_standings.points as official_points,
    last_standings.position as official_position,
    nullIf(last_standings.round, 0) as official_round,
    ifNull(last_standings.position, 0) = 1 and last_standings.round = last_races.round as is_champion
from stats
left join last_standings on last_standings.season = stats.season and last_standings.driver_id = stats.driver_id
left join last_races on last_races.season = stats.season
