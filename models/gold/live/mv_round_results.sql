{{
    config(
        materialized='materialized_view',
        engine='AggregatingMergeTree()',
        order_by='(season, round, batch_id)'
    )
}}

-- One state per round and batch, kept by ClickHouse at every insert into raw_results. The state is a set, so a block that is
-- inserted twice changes nothing, and each batch has its own, so live_driver_points can leave a replaced batch out.
select
    season,
    round,
    batch_id,
    groupUniqArrayState((
        toString(driver_id),
        toString(constructor_id),
        ifNull(car_number, toInt16(-1)),
        position,
        toString(position_text),
        points,
        _loaded_at
    )) as entries
from {{ source('raw', 'raw_results') }}
group by season, round, batch_id
