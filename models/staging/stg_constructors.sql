-- The API lists constructors season by season; the row of the latest season is the one that holds now.
select
    constructor_id,
    name,
    nationality,
    url,
    batch_id,
    _loaded_at as loaded_at
from {{ current_rows('constructors', ['season']) }}
order by season desc
limit 1 by constructor_id
