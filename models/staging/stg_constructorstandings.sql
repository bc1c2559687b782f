select
    season,
    round,
    constructor_id,
    position,
    position_text,
    points,
    wins,
    batch_id,
    _loaded_at as loaded_at
from {{ current_rows('constructorstandings', ['season', 'round']) }}
