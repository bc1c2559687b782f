select
    season,
    round,
    lap,
    driver_id,
    position,
    time_text,
    time_millis,
    batch_id,
    _loaded_at as loaded_at
from {{ current_rows('laps', ['season', 'round']) }}
