{{ config(
    engine='MergeTree()', order_by=['user_id', 'at'], partition_by='toYYYYMM(at)', primary_key='user_id',
    ttl='at + interval 100 year', settings={'index_granularity': 512},
    query_settings={'max_threads': 1},
    indexes=[{'name': 'by_kind', 'definition': 'kind TYPE bloom_filter GRANULARITY 4'}],
    projections=[{'name': 'per_kind', 'query': 'SELECT kind, count() GROUP BY kind'}]
) }}
select toUInt32(number % 7) as user_id, toDateTime('2024-01-01 00:00:00', 'UTC') + number * 3600 as at, concat('k', toString(number % 3)) as kind
from numbers(1000)
