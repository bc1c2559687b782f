-- The snapshots lose no key of staging and keep one open version of each.
{% set snapshots = {'drivers': 'driver_id', 'constructors': 'constructor_id', 'circuits': 'circuit_id'} %}
{% for name, key in snapshots.items() %}
select
    'snap_{{ name }}' as snapshot,
    staging.{{ key }} as id,
    countIf(versions.is_open = 1) as open_versions
from {{ ref('stg_' ~ name) }} as staging
left join (
    select {{ key }}, dbt_valid_to is null as is_open
    from {{ ref('snap_' ~ name) }}
) as versions on versions.{{ key }} = staging.{{ key }}
group by id
having open_versions != 1
{% if not loop.last %}union all{% endif %}
{% endfor %}
