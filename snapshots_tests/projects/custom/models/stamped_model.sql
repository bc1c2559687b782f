{{ config(materialized='stamped', stamp="'custom'", order_by='id', post_hook="insert into {{ this }} values (99, '2024-01-03', 'hook')", persist_docs={'relation': true}) }}
select number + 1 as id, toDate('2024-01-01') + toUInt16(number) as day from numbers(3)
