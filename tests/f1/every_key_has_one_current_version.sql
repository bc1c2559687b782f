-- The snapshots lose no key of staging and keep one open version of each. Drivers who do not race any more have a history
-- without an open version (snap_drivers, `close_when_absent_for`); those of the latest season with a race must have one.
{% set snapshots = {'drivers': 'driver_id', 'constructors': 'constructor_id', 'circuits': 'circuit_id'} %}
{% for name, key in snapshots.items() %}
select
    'snap_{{ name }}' as snapshot,
    staging.{{ key }} as id,
    count(versions.is_open) as all_versions,
    countIf(versions.is_open = 1) as open_versions
from {{ ref('stg_' ~ name) }} as staging
left join (
    select {{ key }}, toNullable(dbt_valid_to is null) as is_open
    from {{ ref('snap_' ~ name) }}
) as versions on versions.{{ key }} = staging.{{ key }}
group by id
{% if name == 'drivers' -%}
having all_versions = 0 or open_versions > 1 or (
    open_versions = 0
    and id in (
        select driver_id from {{ ref('stg_results') }}
        where season = (select max(season) from {{ ref('stg_results') }})
    )
)
{%- else -%}
having open_versions != 1
{%- endif %}
{% if not loop.last %}union all{% endif %}
{% endfor %}
