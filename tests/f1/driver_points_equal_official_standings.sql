-- Points of races and sprints add up to the official table in every season where that is the rule; points_exceptions names the others.
with excepted_seasons as (
    select arrayJoin(range(toUInt16(first_season), toUInt16(last_season + 1))) as season
    from {{ ref('points_exceptions') }}
    where championship = 'drivers'
)

select
    season,
    driver_id,
    total_points,
    official_points
from {{ ref('agg_driver_season_stats') }}
where season in {{ comparable_seasons('driver') }}
    and season not in (select season from excepted_seasons)
    and abs(total_points - official_points) > 0.005
