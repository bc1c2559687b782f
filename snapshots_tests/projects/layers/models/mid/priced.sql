with items as (select * from {{ ref('base_items') }})
select items.id as id, items.label as label, prices.price as price
from items join {{ ref('base_prices') }} as prices on items.id = prices.id
