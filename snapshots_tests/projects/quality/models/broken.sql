{{ config(enabled=(var('bad') == 2)) }}
select id, no_such_column from {{ ref('numbers') }}
