{{ config(materialized='view') }}

-- Reads the states of mv_round_results, so it is current as soon as a result is inserted, before any model runs.
with current_batches as (
    select
        season,
        round,
        max(batch_id) as batch_id
    from (
        select season, round, batch_id
        from {{ ref('mv_round_results') }}
        union all
        select season, round, batch_id
        from {{ source('raw', 'batches') }}
        where endpoint = 'results'
    )
    group by season, round
),

entries as (
    select
        season,
        round,
        arrayJoin(groupUniqArrayMerge(entries)) as entry
    from {{ ref('mv_round_results') }}
    where (season, round, batch_id) in (select season, round, batch_id from current_batches)
    group by season, round, batch_id
),

-- The same batch loaded again, with a corrected value, has an entry of its own: the latest load counts.
cars as (
    select
        season,
        round,
        entry.1 as driver_id,
        entry.2 as constructor_id,
        entry.3 as car_number,
        argMax((entry.4, entry.5, entry.6), entry.7) as latest
    from entries
    group by season, round, driver_id, constructor_id, car_number
)

select
    season,
    driver_id,
    round(sum(latest.3), 2) as race_points,
    uniqExact(round) as races,
    uniqExactIf(round, latest.1 = 1 and match(latest.2, '^[0-9]+$')) as wins,
    uniqExactIf(round, latest.1 <= 3 and match(latest.2, '^[0-9]+$')) as podiums,
    max(round) as last_round
from cars
group by season, driver_id
