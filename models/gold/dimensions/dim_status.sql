{{ config(order_by='status_id') }}

with categories as (
    select
        status_id,
        status,
        multiIf(
            status = 'Finished', 'finished',
            status = 'Lapped' or match(status, '^\\+[0-9]+ Laps?$'), 'lapped',
            status in ('Disqualified', 'Excluded', 'Underweight'), 'disqualified',
            status in ('Did not start', 'Did not qualify', 'Did not prequalify', 'Withdrew', '107% Rule'), 'not_started',
            status in ('Accident', 'Collision', 'Collision damage', 'Spun off', 'Debris', 'Fatal accident'), 'accident',
            status in ('Injured', 'Injury', 'Illness', 'Physical', 'Driver unwell', 'Eye injury', 'Safety concerns'), 'driver',
            status = 'Not classified', 'not_classified',
            'technical'
        ) as category
    from {{ ref('stg_status') }}
)

select
    status_id,
    status,
    transform(
        category,
        ['finished', 'lapped', 'disqualified', 'not_started', 'accident', 'driver', 'not_classified'],
        [
            'Reached the finish on the lap of the winner',
            'Reached the finish one or more laps behind the winner',
            'Taken out of the result by the stewards',
            'Entered, but took no part in the race',
            'Retired after an accident, a collision or a spin',
            'Retired because the driver could not go on',
            'Still running, with too few laps to be classified'
        ],
        'Retired with a technical defect, or without a cause on record'
    ) as description,
    category
from categories
