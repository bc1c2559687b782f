{{ config(contract={'enforced': true}) }}
select id, level, toDate('2024-01-01') as day from {{ ref('numbers') }}
