select 1 as id, toFloat64(10.5) as price, 2 as currency
