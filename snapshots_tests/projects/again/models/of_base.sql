{{ config(order_by='tuple()') }}
select count() as n from {{ source('landed', 'base') }}
