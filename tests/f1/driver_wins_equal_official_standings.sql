-- Wins agree with the official table in the seasons whose results are loaded for each round up to the table's; from 1958, as the
-- table credits the shared wins before it in its own way.
with scored_rounds as (
    select
        season,
        groupUniqArray(round) as rounds
    from {{ ref('fact_race_results') }}
    group by season
),

calendar as (
    select
        season,
        groupUniqArray(round) as rounds
    from {{ ref('dim_races') }}
    group by season
)

select
    stats.season,
    stats.driver_id,
    stats.wins,
    standings.wins as official_wins
from {{ ref('agg_driver_season_stats') }} as stats
inner join {{ ref('stg_driverstandings') }} as standings
    on standings.season = stats.season and standings.round = stats.official_round and standings.driver_id = stats.driver_id
inner join scored_rounds on scored_rounds.season = stats.season
inner join calendar on calendar.season = stats.season
where stats.season >= 1958
    and arrayMax(scored_rounds.rounds) = stats.official_round
    and hasAll(scored_rounds.rounds, arrayFilter(round -> round <= stats.official_round, calendar.rounds))
    and stats.wins != standings.wins
