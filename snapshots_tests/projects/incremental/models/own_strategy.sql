{{ config(unique_key='id', order_by='id', incremental_predicates=['amount < 1000'], incremental_strategy='delete_insert') }}
select id, amount, version from {{ ref('events') }}
