-- Wins agree with the official table; from 1958, as the table credits the shared wins before it in its own way.
select
    stats.season,
    stats.driver_id,
    stats.wins,
    standings.wins as official_wins
from {{ ref('agg_driver_season_stats') }} as stats
inner join {{ ref('stg_driverstandings') }} as standings
    on standings.season = stats.season and standings.round = stats.official_round and standings.driver_id = stats.driver_id
where stats.season >= 1958
    and stats.season in {{ comparable_seasons('driver') }}
    and stats.wins != standings.wins
