{{
  config(
    materialized = 'view',
    meta = {'owner': 'me', 'list': [1, 2.5, none, true]},
    tags = ['people'],
    docs = {'node_color': '#ff0000'}
  )
}}
select id, name, email, region, born from {{ source('seeds', 'raw_customers') }}
{{ '-- depends_on: ' ~ ref('raw_customers') }}
