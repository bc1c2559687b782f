select
    status_id,
    status,
    count as results_count,
    batch_id,
    _loaded_at as loaded_at
from {{ current_rows('status') }}
