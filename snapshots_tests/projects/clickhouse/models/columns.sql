{{ config(contract={'enforced': true}, order_by='id') }}
select toInt64(1) as id, 'x' as label, toDateTime('2024-01-01 00:00:00') as at, map('a', 1) as attributes, [1, 2] as list
