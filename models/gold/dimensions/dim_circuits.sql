{{ config(order_by='(circuit_id, valid_from)') }}

-- One row per version: it holds from valid_from (included) to valid_to (excluded; null while it is the current one).
select
    {{ surrogate_key(['circuit_id', 'dbt_valid_from']) }} as circuit_version_id,
    circuit_id,
    name,
    location,
    country,
    lat,
    lng,
    url,
    toDateTime64(dbt_valid_from, 6, 'UTC') as valid_from,
    toDateTime64(dbt_valid_to, 6, 'UTC') as valid_to,
    dbt_valid_to is null as is_current
from {{ ref('snap_circuits') }}
