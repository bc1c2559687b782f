{{ config(materialized='view', sql_security='invoker') }}
select * from {{ ref('events') }} where user_id = 1
