-- The snapshots lose no key of staging and keep one open version of each; a driver's is closed once a season went by without him.
{% set snapshots = {'drivers': 'driver_id', 'constructors': 'constructor_id', 'circuits': 'circuit_id'} %}
{% for name, key in snapshots.items() %}
select
    'snap_{{ name }}' as snapshot,
    staging.{{ key }} as id,
    countIf(versions.is_known = 1) as all_versions,
    countIf(versions.is_open = 1) as open_versions
from {{ ref('stg_' ~ name) }} as staging
left join (
    select {{ key }}, 1 as is_known, dbt_valid_to is null as is_open
    from {{ ref('snap_' ~ name) }}
) as versions on versions.{{ key }} = staging.{{ key }}
group by id
having all_versions = 0 or open_versions > 1
{% if name == 'drivers' %}
    or (open_versions = 0 and id in (
        select driver_id from {{ ref('stg_results') }} where season = (select max(season) from {{ ref('stg_results') }})
    ))
{% else %}
    or open_versions = 0
{% endif %}
{% if not loop.last %}union all{% endif %}
{% endfor %}
