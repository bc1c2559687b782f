select
    season,
    round,
    driver_id,
    constructor_id,
    car_number,
    position,
    q1_millis,
    q2_millis,
    q3_millis,
    batch_id,
    _loaded_at as loaded_at
from {{ current_rows('qualifying', ['season', 'round']) }}
