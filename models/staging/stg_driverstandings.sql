select
    season,
    round,
    driver_id,
    position,
    position_text,
    points,
    wins,
    constructor_ids,
    batch_id,
    _loaded_at as loaded_at
from {{ current_rows('driverstandings', ['season', 'round']) }}
