{{ config(contract={'enforced': true}, enabled=(var('bad') == 2)) }}
select id, 'x' as level from {{ ref('numbers') }}
