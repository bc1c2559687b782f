{{ config(materialized='incremental', incremental_strategy='append', order_by='id') }}
select id, day, {{ 1 if is_incremental() else 0 }} as again from {{ ref('stamped_model') }}
