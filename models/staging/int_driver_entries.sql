-- Who drove for whom in which race: the observations that snap_drivers builds its history from. Of two cars in one race, the one
-- that finished ahead, as in stg_drivers.
select
    results.driver_id as driver_id,
    results.constructor_id as constructor_id,
    results.season as season,
    results.round as round,
    races.race_date as race_date
from {{ ref('stg_results') }} as results
inner join {{ ref('stg_races') }} as races on races.season = results.season and races.round = results.round
order by results.position
limit 1 by results.season, results.round, results.driver_id
