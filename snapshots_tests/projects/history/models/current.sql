{{ config(materialized='view') }}
select id, name, city from {{ ref('people_by_time') }} where dbt_valid_to is null
