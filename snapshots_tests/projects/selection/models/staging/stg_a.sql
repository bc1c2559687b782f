

{{ config(alias='a_alias', tags=['x','root'], meta={'k': [1,2]}) }}
select * from {{ source('raw', 'orders') }} -- {{ var('top') }}

