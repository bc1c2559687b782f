select
    circuit_id,
    circuit_name as name,
    locality as location,
    country,
    latitude as lat,
    longitude as lng,
    url,
    batch_id,
    _loaded_at as loaded_at
from {{ current_rows('circuits') }}
