select 1 as id, 'web' as channel, 3 as n union all select 2, 'shop', 5 union all select 3, 'web', 7
