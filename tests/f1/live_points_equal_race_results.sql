-- The materialized view's states tell the same as the rows they were made from.
with expected as (
    select
        season,
        driver_id,
        round(sum(points), 2) as race_points,
        uniqExact(round) as races
    from {{ ref('stg_results') }}
    group by season, driver_id
)

select
    coalesce(expected.season, live.season) as season,
    coalesce(expected.driver_id, live.driver_id) as driver_id,
    expected.race_points as expected_points,
    live.race_points as live_points
from expected
full outer join {{ ref('live_driver_points') }} as live
    on live.season = expected.season and live.driver_id = expected.driver_id
where abs(expected.race_points - live.race_points) > 0.005
    or expected.races != live.races
