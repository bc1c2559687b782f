{{ config(materialized='ephemeral') }} select * from {{ ref('stg_a') }} where {{ cents('amount') }}
