{{ config(order_by='season_id') }}

select
    season as season_id,
    season as year,
    url
from {{ ref('stg_seasons') }}
