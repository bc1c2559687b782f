{{ config(severity='warn', tags=['single'], meta={'m': 1}, enabled=var('singular', true)) }}
{# fails nothing #}
select * from {{ ref('stg_orders') }} where cents < 0
