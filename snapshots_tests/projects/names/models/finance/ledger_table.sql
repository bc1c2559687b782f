{{ config(materialized='table', alias='ledger_copy', order_by='id', schema=none) }}
select * from {{ ref('names', 'ledger') }}
