select count() as id from {{ ref('passing') }}
