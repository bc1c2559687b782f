-- Points of races and sprints add up to the official table in every season where that is the rule (points_exceptions names the
-- others) and whose results are loaded for each of its rounds up to the table's.
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
),

excepted_seasons as (
    select arrayJoin(range(toUInt16(first_season), toUInt16(last_season + 1))) as season
    from {{ ref('points_exceptions') }}
    where championship = 'constructors'
)

select
    stats.season,
    stats.constructor_id,
    stats.total_points,
    stats.official_points
from {{ ref('agg_constructor_season_stats') }} as stats
inner join scored_rounds on scored_rounds.season = stats.season
inner join calendar on calendar.season = stats.season
where stats.official_points is not null
    and stats.season not in (select season from excepted_seasons)
    and arrayMax(scored_rounds.rounds) = stats.official_round
    and hasAll(scored_rounds.rounds, arrayFilter(round -> round <= stats.official_round, calendar.rounds))
    and abs(stats.total_points - stats.official_points) > 0.005
