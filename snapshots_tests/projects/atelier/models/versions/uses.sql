select a.id as id, b.price as p2, c.price as p1, d.price as latest, '{{ ref("price", version=3).identifier }}' as three
from {{ ref('price', v=2) }} as a
join {{ ref('price', version='2') }} b on a.id = b.id
join {{ ref('atelier', 'price', v=1) }} c on c.id = a.id
join {{ ref('price') }} d on d.id = a.id
