{{ config(engine='SummingMergeTree()', order_by='kind', partition_by=none) }}
select kind, count() as n from {{ ref('events') }} group by kind
