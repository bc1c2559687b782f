{{ config(order_by='(season, round)', indexes=[{'name': 'race_date_range', 'definition': 'race_date type minmax granularity 1'}]) }}

select
    {{ surrogate_key(['season', 'round']) }} as race_id,
    season,
    round,
    race_name,
    toLowCardinality(circuit_id) as circuit_id,
    race_date,
    race_time_utc,
    qualifying_date,
    sprint_date,
    sprint_date is not null as has_sprint,
    url
from {{ ref('stg_races') }}
