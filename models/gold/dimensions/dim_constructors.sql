{{ config(order_by='(constructor_id, valid_from)') }}

-- One row per version: it holds from valid_from (included) to valid_to (excluded; null while it is the current one).
select
    {{ surrogate_key(['constructor_id', 'dbt_valid_from']) }} as constructor_version_id,
    constructor_id,
    name,
    nationality,
    url,
    toDateTime64(dbt_valid_from, 6, 'UTC') as valid_from,
    toDateTime64(dbt_valid_to, 6, 'UTC') as valid_to,
    dbt_valid_to is null as is_current
from {{ ref('snap_constructors') }}
