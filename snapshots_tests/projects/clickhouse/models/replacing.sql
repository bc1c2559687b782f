{{ config(engine='ReplacingMergeTree(at)', order_by='(user_id, kind)', persist_docs={'relation': true, 'columns': true}) }}
select user_id, kind, max(at) as at from {{ ref('events') }} group by user_id, kind
