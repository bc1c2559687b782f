select
    season,
    round,
    driver_id,
    stop,
    lap,
    time_of_day_local,
    duration_text,
    duration_millis,
    batch_id,
    _loaded_at as loaded_at
from {{ current_rows('pitstops', ['season', 'round']) }}
