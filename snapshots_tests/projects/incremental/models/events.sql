{{ config(materialized='view') }}
select
    number as id,
    toDate('2024-01-01') + intval as day,
    number * {{ var('day') }} as amount,
    'v{{ var("day") }}' as version
from (select number, toUInt16(intDiv(number, 10)) as intval from numbers({{ var('day') * 10 }}))
