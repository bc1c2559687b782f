{{
    config(
        materialized='incremental',
        incremental_strategy='insert_overwrite',
        partition_by='season',
        order_by='(season, round, driver_id, lap_number)',
        indexes=[{'name': 'driver_id_bloom', 'definition': 'driver_id type bloom_filter(0.01) granularity 1'}],
        post_hook="{{ drop_emptied_seasons('laps') }}"
    )
}}

-- A later run replaces the partitions of the seasons in which a round got a newer batch, lost its rows, or was loaded again.
-- It takes its columns from stg_laps alone, so that nothing else can make an untouched season stale.
{% if is_incremental() %}
with current_rounds as (
    select
        season,
        round,
        batch_id,
        max(_loaded_at) as loaded_at
    from {{ source('raw', 'raw_laps') }}
    where (season, round, batch_id) in {{ current_batch('laps', ['season', 'round']) }}
    group by season, round, batch_id
),

built_rounds as (
    select
        season,
        round,
        any(batch_id) as batch_id,
        max(loaded_at) as loaded_at
    from {{ this }}
    group by season, round
),

changed_seasons as (
    select season
    from current_rounds
    where (season, round, batch_id, loaded_at) not in (select season, round, batch_id, loaded_at from built_rounds)
    union distinct
    select season
    from built_rounds
    where (season, round) not in (select season, round from current_rounds)
)
{% endif %}

select
    {{ surrogate_key(['season', 'round', 'driver_id', 'lap']) }} as lap_id,
    season,
    round,
    toLowCardinality(driver_id) as driver_id,
    lap as lap_number,
    position,
    time_millis as lap_time_ms,
    toLowCardinality(batch_id) as batch_id,
    loaded_at
from {{ ref('stg_laps') }}
{% if is_incremental() %}
where season in (select season from changed_seasons)
{% endif %}
