{{ config(materialized='ephemeral', tags=['fresh']) }} select * from {{ ref('stg_a') }} where {{ cents('amount') }}
