select p.id, p.price, old.price as old_price from {{ ref('price') }} p join {{ ref('price', v=1) }} old using (id)
