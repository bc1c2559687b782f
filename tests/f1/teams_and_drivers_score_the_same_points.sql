-- Every point a driver scored was scored for a constructor.
select
    drivers.season,
    drivers.points as driver_points,
    constructors.points as constructor_points
from (select season, sum(total_points) as points from {{ ref('agg_driver_season_stats') }} group by season) as drivers
full outer join (select season, sum(total_points) as points from {{ ref('agg_constructor_season_stats') }} group by season) as constructors
    on constructors.season = drivers.season
where abs(drivers.points - constructors.points) > 0.05
