{{ config(order_by='(driver_id, valid_from)') }}

-- One row per version: it holds from valid_from (included) to valid_to (excluded; null while it is the current one).
select
    {{ surrogate_key(['driver_id', 'dbt_valid_from']) }} as driver_version_id,
    driver_id,
    name,
    given_name,
    family_name,
    nationality,
    dob,
    constructor_id,
    code,
    permanent_number,
    url,
    toDateTime64(dbt_valid_from, 6, 'UTC') as valid_from,
    toDateTime64(dbt_valid_to, 6, 'UTC') as valid_to,
    dbt_valid_to is null as is_current,
    row_number() over (partition by driver_id order by dbt_valid_from desc) = 1 as is_latest
from {{ ref('snap_drivers') }}
