{{ config(materialized='materialized_view', engine='MergeTree()', order_by='hour') }}
select toStartOfHour(at) as hour, kind, user_id from {{ ref('events') }}
