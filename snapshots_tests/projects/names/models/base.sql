select 1 as id, 'EUR' as currency
