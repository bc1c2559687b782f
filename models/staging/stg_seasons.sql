select
    season,
    url,
    batch_id,
    _loaded_at as loaded_at
from {{ current_rows('seasons') }}
