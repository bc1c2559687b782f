-- Questions for the gold tables. Run them in schema f1; each answers in well under 200 ms on 76 seasons and 5 million laps.

-- name: champions
-- title: World champions of the latest seasons
select
    stats.season as season,
    drivers.name as champion,
    stats.official_points as points,
    stats.wins as wins,
    stats.podiums as podiums,
    stats.poles as poles
from agg_driver_season_stats as stats
inner join dim_drivers as drivers on drivers.driver_id = stats.driver_id and drivers.is_latest
where stats.is_champion
order by season desc
limit 10;

-- name: fastest_laps
-- title: Lap record of each circuit
select
    circuits.name as circuit,
    laps.fastest_time as lap,
    drivers.name as driver,
    laps.season as season
from agg_fastest_laps_by_circuit as laps
inner join dim_circuits as circuits on circuits.circuit_id = laps.circuit_id and circuits.is_current
inner join dim_drivers as drivers on drivers.driver_id = laps.driver_id and drivers.is_latest
where laps.circuit_rank = 1
order by circuit
limit 10;

-- name: team_points
-- title: Points per team in the latest season with results
select
    constructors.name as team,
    stats.total_points as points,
    stats.wins as wins,
    stats.podiums as podiums,
    stats.official_position as place
from agg_constructor_season_stats as stats
inner join dim_constructors as constructors on constructors.constructor_id = stats.constructor_id and constructors.is_current
where stats.season = (select max(season) from agg_constructor_season_stats)
order by points desc, team
limit 10;

-- name: driver_standings
-- title: Drivers of the latest season with results: points scored, and points that count
select
    drivers.name as driver,
    stats.total_points as points,
    stats.official_points as official,
    stats.races as races,
    stats.wins as wins,
    stats.poles as poles
from agg_driver_season_stats as stats
inner join dim_drivers as drivers on drivers.driver_id = stats.driver_id and drivers.is_latest
where stats.season = (select max(season) from agg_driver_season_stats)
order by points desc, driver
limit 10;

-- name: ferrari_2008
-- title: Who drove for Ferrari in 2008?
select
    drivers.name as driver,
    uniqExact(results.round) as races,
    sum(results.points) as points
from fact_race_results as results
inner join dim_drivers as drivers on drivers.driver_id = results.driver_id and drivers.is_latest
where results.season = 2008
    and results.constructor_id = 'ferrari'
group by driver
order by points desc, driver;

-- name: driver_transfers
-- title: Drivers who changed teams most often
select
    drivers.name as driver,
    length(arrayCompact(arrayMap(entry -> entry.2, arraySort(groupArray(((results.season, results.round), results.constructor_id)))))) - 1 as changes,
    uniqExact(results.constructor_id) as teams,
    min(results.season) as first,
    max(results.season) as last
from fact_race_results as results
inner join dim_drivers as drivers on drivers.driver_id = results.driver_id and drivers.is_latest
group by driver
order by changes desc, driver
limit 10;

-- name: driver_versions
-- title: Versions of the drivers with the most changes since the first snapshot
select
    driver_id,
    name,
    constructor_id as team,
    formatDateTime(valid_from, '%F %T') as valid_from,
    ifNull(formatDateTime(valid_to, '%F %T'), 'now') as valid_to
from dim_drivers
where driver_id in (select driver_id from dim_drivers group by driver_id order by count() desc, driver_id limit 3)
order by driver_id, dim_drivers.valid_from
limit 10;

-- name: race_pace
-- title: Median lap and consistency in the latest race with lap times
select
    drivers.name as driver,
    count() as laps,
    round(median(times.lap_time_ms) / 1000, 3) as median_s,
    round(stddevPop(times.lap_time_ms) / 1000, 3) as spread_s
from fact_lap_times as times
inner join dim_drivers as drivers on drivers.driver_id = times.driver_id and drivers.is_latest
where (times.season, times.round) = (select season, round from fact_lap_times order by season desc, round desc limit 1)
group by driver
order by median_s, driver
limit 10;

-- name: laps_per_decade
-- title: Laps driven and time on the track, by decade
select
    concat(toString(intDiv(season, 10) * 10), 's') as decade,
    sum(laps) as laps,
    uniqExact(driver_id) as drivers,
    round(sum(millis) / 3600000) as hours
from (select season, driver_id, count() as laps, sum(lap_time_ms) as millis from fact_lap_times group by season, driver_id)
group by decade
order by decade;

-- name: pit_stops
-- title: Fastest median pit stop per team in the latest season with stops
select
    constructors.name as team,
    count() as stops,
    round(median(stops.duration_ms) / 1000, 2) as median_s,
    round(min(stops.duration_ms) / 1000, 2) as best_s
from fact_pit_stops as stops
inner join dim_constructors as constructors on constructors.constructor_id = stops.constructor_id and constructors.is_current
where stops.season = (select max(season) from fact_pit_stops)
    and stops.duration_ms < 60000
group by team
order by median_s, team
limit 10;

-- name: grid_to_flag
-- title: How often the pole wins, by decade
select
    concat(toString(intDiv(season, 10) * 10), 's') as decade,
    uniqExact((season, round)) as races,
    round(100 * uniqExactIf((season, round), grid_position = 1 and is_classified and final_position = 1) / races) as pole_wins_pct
from fact_race_results
group by decade
order by decade;

-- name: retirements
-- title: Why cars retired, by decade
select
    concat(toString(intDiv(results.season, 10) * 10), 's') as decade,
    countIf(status.category = 'technical') as technical,
    countIf(status.category = 'accident') as accident,
    countIf(status.category in ('finished', 'lapped')) as finished,
    round(100 * finished / count()) as finished_pct
from fact_race_results as results
inner join dim_status as status on status.status_id = results.status_id
group by decade
order by decade;

-- name: qualifying_gap
-- title: Narrowest poles by qualifying time
select
    qualifying.season as season,
    races.race_name as race,
    argMin(drivers.name, qualifying.final_position) as pole,
    toInt64(arraySort(groupArray(assumeNotNull(qualifying.q3_ms)))[2] - min(qualifying.q3_ms)) as gap_ms
from fact_qualifying_results as qualifying
inner join dim_races as races on races.season = qualifying.season and races.round = qualifying.round
inner join dim_drivers as drivers on drivers.driver_id = qualifying.driver_id and drivers.is_latest
where qualifying.q3_ms is not null
group by season, race
having count() > 1
order by gap_ms, season, race
limit 10;

-- name: live_points
-- title: Race points of the latest season, straight from the materialized view
select
    drivers.name as driver,
    live.race_points as race_points,
    live.races as races,
    live.wins as wins
from live_driver_points as live
inner join dim_drivers as drivers on drivers.driver_id = live.driver_id and drivers.is_latest
where live.season = (select max(season) from live_driver_points)
order by race_points desc, driver
limit 10;
