select max(twice) as id from {{ ref('top') }}
