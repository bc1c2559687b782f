with labelled as (
    select id, upper(label) as label, price from {{ ref('priced') }}
)
select * from labelled order by id
