-- snapshot_as_of at this moment gives exactly the open versions, and before the first race of all nothing.
select 'now' as moment, driver_id
from {{ snapshot_as_of(ref('snap_drivers'), 'now64(6)') }}
where dbt_valid_to is not null
union all
select 'now' as moment, driver_id
from {{ ref('snap_drivers') }}
where dbt_valid_to is null
    and driver_id not in (select driver_id from {{ snapshot_as_of(ref('snap_drivers'), 'now64(6)') }})
union all
select 'before' as moment, driver_id
from {{ snapshot_as_of(ref('dim_drivers'), "toDateTime64('1900-01-02 00:00:00', 6, 'UTC')", valid_from='valid_from', valid_to='valid_to') }}
