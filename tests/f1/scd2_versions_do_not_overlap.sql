-- Each version ends no later than the next one of its key begins, begins before it ends, and only the last is open.
{% set dimensions = {'dim_drivers': 'driver_id', 'dim_constructors': 'constructor_id', 'dim_circuits': 'circuit_id'} %}
with versions as (
    {% for dimension, key in dimensions.items() %}
    select
        '{{ dimension }}' as dimension,
        {{ key }} as id,
        valid_from,
        valid_to,
        leadInFrame(toNullable(valid_from)) over (
            partition by {{ key }} order by valid_from rows between unbounded preceding and unbounded following
        ) as next_valid_from
    from {{ ref(dimension) }}
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
)

select *
from versions
where valid_to <= valid_from
    or (next_valid_from is not null and (valid_to is null or valid_to > next_valid_from))
