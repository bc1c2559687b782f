select toDate('{{ var("start") }}') + toUInt16(number) as day, {{ var('depth') }} as depth from numbers(7)
