-- The API lists drivers season by season, without a team. The row of the latest season is the one that holds now, and the team is
-- that of the driver's latest result; of two cars in that race, the one that finished ahead.
with latest_drivers as (
    select *
    from {{ current_rows('drivers', ['season']) }}
    order by season desc
    limit 1 by driver_id
),

latest_constructors as (
    select
        driver_id,
        toNullable(argMax(constructor_id, (season, round, -position))) as constructor_id
    from {{ ref('stg_results') }}
    group by driver_id
)

select
    drivers.driver_id as driver_id,
    trimBoth(concat(drivers.given_name, ' ', drivers.family_name)) as name,
    drivers.given_name as given_name,
    drivers.family_name as family_name,
    drivers.permanent_number as permanent_number,
    drivers.code as code,
    {{ iso_date('drivers.date_of_birth') }} as dob,
    drivers.nationality as nationality,
    latest_constructors.constructor_id as constructor_id,
    drivers.url as url,
    drivers.batch_id as batch_id,
    drivers._loaded_at as loaded_at
from latest_drivers as drivers
left join latest_constructors on latest_constructors.driver_id = drivers.driver_id
